#!/usr/bin/env node
import type { CheckedConfig, CheckedTaskLogBroker } from '../src/config/config-schema.ts';
import { isSignalboxError } from '../src/errors.ts';
import type { Signalbox } from '../src/signalbox.ts';
import { runIfMain } from './command-line.ts';
import type { Command, GivenOptions } from './command-line.ts';

export const initializeQueue: Command = {
  name: 'initialize-queue',
  describe:
    'Creates what the queues and the task log of the configuration need. ' +
    'Loses nothing: repeat it as often as you like, from as many processes as you like.',
  options: {},
  examples: [
    ['', 'prepare everything that the configuration names'],
    ['--config=ops/signalbox.config.js', 'with another configuration'],
  ],
  run,
};

/** `in memory`: there is nothing to create. */
type State = 'created' | 'checked' | 'in memory';

interface QueueResult {
  readonly name: string;
  readonly broker: string;
  readonly persistence: string | null;
  readonly state: State;
}

async function run(given: GivenOptions): Promise<number> {
  const [{ loadConfig }, { wireSignalbox }, { createLogger }] = await Promise.all([
    import('./load-config.ts'),
    import('../src/signalbox.ts'),
    import('./logger.ts'),
  ]);
  const { config } = await loadConfig(given.text('config'));
  const logger = await createLogger(given.logLevel ?? config.log.level ?? 'warn');
  const signalbox = await wireSignalbox(config, { logger });
  try {
    const queues = await initializeQueues(signalbox, config);
    const taskLog = await initializeTaskLog(signalbox, config.taskLog.broker);
    const sync = signalbox.dispatcher.isSync();
    await given.print(reportText(queues, taskLog, sync), { queues, taskLog, sync });
    return 0;
  } finally {
    await signalbox.close();
  }
}

async function initializeQueues(
  { dispatcher }: Signalbox,
  { queues }: CheckedConfig,
): Promise<QueueResult[]> {
  const wasThere = await Promise.all(dispatcher.queues.map((queue) => isInitialized(() => queue.count())));
  await dispatcher.initialize();
  return queues.map(({ name, broker }, i) => ({
    name,
    broker: broker.type,
    persistence: broker.type === 'rds' ? broker.persistence : null,
    state: stateOf(broker.type, wasThere[i] === true),
  }));
}

async function initializeTaskLog({ taskLog }: Signalbox, broker: CheckedTaskLogBroker): Promise<QueueResult> {
  const wasThere = await isInitialized(() => taskLog.stats());
  await taskLog.createContainer();
  return {
    name: broker.type === 'rds' ? broker.container : 'task_log',
    broker: broker.type,
    persistence: broker.type === 'rds' ? broker.persistence : null,
    state: stateOf(broker.type, wasThere),
  };
}

async function isInitialized(ask: () => Promise<unknown>): Promise<boolean> {
  try {
    await ask();
    return true;
  } catch (error) {
    if (isSignalboxError(error) && error.code === 'NOT_INITIALIZED') return false;
    throw error;
  }
}

function stateOf(type: string, wasThere: boolean): State {
  if (type === 'memory') return 'in memory';
  return wasThere ? 'checked' : 'created';
}

function reportText(queues: readonly QueueResult[], taskLog: QueueResult, sync: boolean): string {
  const lines = [
    ...queues.map((queue) => `Queue ${queue.name} ${where(queue)}: ${STATE_TEXTS[queue.state]}`),
    `Task log ${taskLog.name} ${where(taskLog)}: ${STATE_TEXTS[taskLog.state]}`,
  ];
  if (sync) lines.push('All queues are sync: tasks run inside `enqueue`, and no worker is needed.');
  return lines.join('\n');
}

const STATE_TEXTS: Readonly<Record<State, string>> = {
  created: 'created',
  checked: 'was there; checked',
  'in memory': 'nothing to create',
};

function where({ broker, persistence }: QueueResult): string {
  return persistence === null ? `(${broker})` : `(${broker}, ${persistence})`;
}

await runIfMain(initializeQueue, import.meta.url);
