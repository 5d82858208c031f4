import type {
  ClaimAnswer,
  ClaimOptions,
  HeldTask,
  LogSettleAnswer,
  NewTaskLogEntry,
  Settlement,
  TaskLogBroker,
  TaskLogEntry,
  TaskLogFields,
} from '../../src/task-log-broker.ts';
import type { TaskStatus } from '../../src/task-status.ts';
import { LONG_MS, one } from './scene.ts';
import type { Scene } from './scene.ts';

export interface TaskLogScene extends Scene {
  readonly log: TaskLogBroker;
}

export function newEntry(id: string, more: Partial<NewTaskLogEntry> = {}): NewTaskLogEntry {
  return {
    id,
    queue: 'one',
    taskName: 'test.task',
    label: `Label of ${id}`,
    owner: null,
    category: null,
    parentId: null,
    masterStatus: false,
    priority: 0,
    group: null,
    envelope: `envelope of ${id}`,
    delayMs: 0,
    owedInMs: null,
    ...more,
  };
}

/** What the row takes over from its entry as it is. */
export function fieldsOf(entry: NewTaskLogEntry): TaskLogFields {
  const { id, queue, taskName, label, owner, category } = entry;
  const { parentId, masterStatus, priority, group, envelope } = entry;
  return {
    id,
    queue,
    taskName,
    label,
    owner,
    category,
    parentId,
    masterStatus,
    priority,
    group,
    envelope,
  };
}

export async function rowOf(log: TaskLogBroker, id: string): Promise<TaskLogEntry> {
  const { entries } = await log.search({ ids: [id] }, { limit: 2 });
  return one(entries);
}

type Claiming = Partial<ClaimOptions & { readonly owe: boolean }>;

export function claimAll(
  log: TaskLogBroker,
  ids: readonly string[],
  token: string,
  more: Claiming = {},
): Promise<ClaimAnswer[]> {
  return log.claim(ids, { worker: 'worker', token, leaseMs: LONG_MS, start: 0, owe: false, ...more });
}

export async function claimOne(
  log: TaskLogBroker,
  id: string,
  token: string,
  more: Claiming = {},
): Promise<ClaimAnswer> {
  return one(await claimAll(log, [id], token, more));
}

export const REPORT = '{"type":"success","message":"Grüße 👍"}';

/** One settlement of each kind. */
export const SETTLEMENTS: {
  readonly [Kind in Settlement['kind']]: (task: HeldTask) => Settlement & { readonly kind: Kind };
} = {
  completed: (task) => ({ task, kind: 'completed', report: REPORT }),
  failed: (task) => ({ task, kind: 'failed', report: REPORT }),
  child_running: (task) => ({ task, kind: 'child_running', report: REPORT }),
  cancelled: (task) => ({ task, kind: 'cancelled', report: REPORT }),
  retry: (task) => ({ task, kind: 'retry', afterMs: LONG_MS }),
  again: (task) => ({ task, kind: 'again', afterMs: LONG_MS }),
  'give-back': (task) => ({ task, kind: 'give-back', afterMs: LONG_MS }),
};

export const FINISHING = ['completed', 'failed', 'child_running', 'cancelled'] as const;
export const REOPENING = ['retry', 'again', 'give-back'] as const;

export async function settleOne(log: TaskLogBroker, settlement: Settlement): Promise<LogSettleAnswer> {
  return one((await log.settle([settlement], [])).settled);
}

/** Inserts a row that is held under `token`, without a draw. */
export async function insertHeld(
  log: TaskLogBroker,
  id: string,
  token: string,
  start: boolean,
  more: Partial<NewTaskLogEntry> & { readonly leaseMs?: number } = {},
): Promise<HeldTask> {
  const { leaseMs = LONG_MS, ...fields } = more;
  await log.insert([newEntry(id, { claim: { token, worker: 'worker', leaseMs, start }, ...fields })]);
  return { id, token };
}

/** A new row in the status given; `token` is that of its last holder. */
export async function insertIn(
  log: TaskLogBroker,
  id: string,
  token: string,
  status: TaskStatus,
): Promise<void> {
  switch (status) {
    case 'enqueued':
      await log.insert([newEntry(id)]);
      return;
    case 'dequeued':
    case 'running':
      await insertHeld(log, id, token, status === 'running');
      return;
    case 'child_running':
    case 'completed':
    case 'failed':
    case 'cancelled':
      await settleOne(log, SETTLEMENTS[status](await insertHeld(log, id, token, true)));
      return;
    case 'archived':
      await insertIn(log, id, token, 'completed');
      await log.change('archive', [id], {});
  }
}
