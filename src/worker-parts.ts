import type { Clock, Logger, Random } from './environment.ts';
import { SignalboxError } from './errors.ts';
import type { EventBus } from './events.ts';
import type { RunOptions } from './options.ts';
import { InlineExecutor } from './executor.ts';
import type { TaskExecutor } from './executor.ts';
import { TaskLines } from './task-lines.ts';
import type { TaskLog } from './task-log.ts';
import type { TaskRegistry } from './task-registry.ts';
import { TaskRunner } from './task-runner.ts';
import type { Services } from './task-runner.ts';

/** What workers, and the runner of sync queues, need of a dispatcher beside its queues. */
export interface WorkerParts {
  readonly runner: TaskRunner;
  readonly lines: TaskLines;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventBus;
}

export interface WorkerPartsOptions {
  readonly taskLog: TaskLog;
  readonly registry: TaskRegistry;
  readonly executor?: TaskExecutor;
  readonly services?: Services;
  readonly defaults?: RunOptions;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
}

const noServices: Services = {
  get(token) {
    throw new SignalboxError('SERVICE_UNKNOWN', `No service is bound to ${String(token)}.`);
  },
};

export function workerParts(options: WorkerPartsOptions): WorkerParts {
  const { taskLog, registry, logger, clock, random } = options;
  const { events } = taskLog;
  const lines = new TaskLines(taskLog.broker, clock, logger);
  const runner = new TaskRunner({
    registry,
    executor: options.executor ?? new InlineExecutor(),
    lines,
    services: options.services ?? noServices,
    defaults: options.defaults ?? {},
    events,
    logger,
    clock,
    random,
  });
  return { runner, lines, logger, clock, random, events };
}
