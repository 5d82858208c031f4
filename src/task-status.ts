/**
 * The statuses of a task and the one table of legal changes.
 *
 * Every driver compares and sets; which change is legal is decided here and nowhere else.
 */

export const TaskStatus = {
  /** Accepted, waiting for a worker. */
  ENQUEUED: 'enqueued',
  /** Claimed by a worker that has not started it yet. */
  DEQUEUED: 'dequeued',
  /** Its handler is being called under a live claim. */
  RUNNING: 'running',
  /** Its own work is done; it waits for its children. */
  CHILD_RUNNING: 'child_running',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
  ARCHIVED: 'archived',
} as const;

export type TaskStatus = (typeof TaskStatus)[keyof typeof TaskStatus];

/** What users see: several statuses of the machine are one to them. */
export type CategorizedStatus = 'created' | 'in_progress' | 'completed' | 'failed' | 'archived' | 'cancelled';

const NEXT: Readonly<Record<TaskStatus, readonly TaskStatus[]>> = {
  enqueued: ['dequeued', 'running', 'cancelled', 'archived', 'failed'],
  dequeued: ['dequeued', 'running', 'enqueued', 'completed', 'failed', 'child_running', 'cancelled'],
  running: ['running', 'dequeued', 'completed', 'failed', 'child_running', 'cancelled', 'enqueued'],
  child_running: ['completed', 'failed', 'cancelled'],
  failed: ['enqueued', 'archived'],
  cancelled: ['enqueued', 'archived'],
  completed: ['archived'],
  archived: [],
};

const CATEGORIZED: Readonly<Record<TaskStatus, CategorizedStatus>> = {
  enqueued: 'created',
  dequeued: 'in_progress',
  running: 'in_progress',
  child_running: 'in_progress',
  completed: 'completed',
  failed: 'failed',
  archived: 'archived',
  cancelled: 'cancelled',
};

export const TASK_STATUSES: readonly TaskStatus[] = Object.values(TaskStatus);

/** A worker may hold a task in these; its token guards the row. */
export const HELD_STATUSES: readonly TaskStatus[] = ['dequeued', 'running'];

/** No worker will touch a task in these again unless an operator acts. */
export const FINISHED_STATUSES: readonly TaskStatus[] = ['completed', 'failed', 'cancelled', 'archived'];

export function isTaskStatus(value: unknown): value is TaskStatus {
  return typeof value === 'string' && Object.hasOwn(NEXT, value);
}

export function isFinished(status: TaskStatus): boolean {
  return FINISHED_STATUSES.includes(status);
}

/** `force` is an operator's: it archives or cancels anything. */
export function mayChange(from: TaskStatus, to: TaskStatus, force = false): boolean {
  return NEXT[from].includes(to) || (force && (to === 'archived' || to === 'cancelled'));
}

/** The statuses from which `to` may be reached; drivers put them into their conditions. */
export function statusesBefore(to: TaskStatus, force = false): readonly TaskStatus[] {
  return TASK_STATUSES.filter((from) => mayChange(from, to, force));
}

/** A status that this version does not know (written by a newer one) counts as failed, so that one odd row never empties a list. */
export function categorizeStatus(status: string): CategorizedStatus {
  return isTaskStatus(status) ? CATEGORIZED[status] : 'failed';
}
