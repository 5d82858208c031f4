import type { ReceiveOptions, Receipt } from './queue-broker.ts';
import type { Store, Transaction } from './store.ts';
import type { TaskStatus } from './task-status.ts';

/** What a row knows of a task from its first moment. */
export interface TaskLogFields {
  readonly id: string;
  readonly queue: string;
  readonly taskName: string;
  readonly label: string;
  readonly owner: string | null;
  readonly category: string | null;
  readonly parentId: string | null;
  /** The task sets its own final status; its children never do. */
  readonly masterStatus: boolean;
  /** Of its message; kept here so that the message can be built again from the row. */
  readonly priority: number;
  readonly group: string | null;
  /** The whole envelope as text. */
  readonly envelope: string;
}

export interface NewTaskLogEntry extends TaskLogFields {
  /** Milliseconds from now until it is due; 0: at once. */
  readonly delayMs: number;
  /**
   * Milliseconds from now after which somebody owes the queue a message, unless the debt is cleared before.
   * Null: row and message are one commit, or there is no message at all.
   */
  readonly owedInMs: number | null;
  /** The row is inserted claimed: no draw. `start` writes it `running`, else `dequeued`. */
  readonly claim?: {
    readonly token: string;
    readonly worker: string;
    readonly leaseMs: number;
    readonly start: boolean;
  };
}

/** A row as it is read. Times are UTC milliseconds of the storage's clock. */
export interface TaskLogEntry extends TaskLogFields {
  readonly status: TaskStatus;
  /** Runs that ended by themselves. */
  readonly attempts: number;
  /** Runs that began and whose claim was taken over. */
  readonly lapses: number;
  /** How often a worker gave it back because it did not know the task's name. */
  readonly unknowns: number;
  readonly report: string | null;
  readonly worker: string | null;
  readonly deadReason: string | null;
  readonly notBefore: number;
  /** When the claim ends; null when nobody holds the task. */
  readonly claimUntil: number | null;
  readonly pushAt: number | null;
  readonly generation: number;
  readonly cancelRequestedAt: number | null;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
}

export interface ClaimOptions {
  readonly worker: string;
  /** New for every draw. A repeat with the same token answers `claimed` again. */
  readonly token: string;
  readonly leaseMs: number;
  /**
   * How many of them start at once, in the order of the ids: they are written `running` in the same commit. A task
   * with lapses is never among them: its claimant decides first.
   */
  readonly start: number;
}

export interface DrawOptions extends ReceiveOptions, ClaimOptions {}

/** A claim that was taken over from a worker that let it lapse. */
export interface LapsedClaim {
  readonly worker: string | null;
  /** Its handler had been called: the lapse was counted, and this draw never starts such a task itself. */
  readonly started: boolean;
}

export type ClaimAnswer = { readonly id: string } & (
  | {
      readonly kind: 'claimed';
      readonly started: boolean;
      readonly attempts: number;
      readonly lapses: number;
      readonly unknowns: number;
      readonly leaseLeftMs: number;
      readonly lapsed?: LapsedClaim;
    }
  /** Never to be run again (also `child_running`, and a cancellation that this very claim wrote). */
  | { readonly kind: 'finished'; readonly status: TaskStatus }
  /** Another claim lives, or the task is not due yet. */
  | { readonly kind: 'held' | 'early'; readonly inMs: number }
  | { readonly kind: 'missing' }
);

/** A task in hand: everything that a run writes is conditional on the token. */
export interface HeldTask {
  readonly id: string;
  readonly token: string;
  /** Of its message; absent for tasks that have none (sync queues). */
  readonly receipt?: Receipt;
}

export type Settlement = { readonly task: HeldTask } & (
  | {
      readonly kind: 'completed' | 'failed' | 'child_running';
      readonly report: string;
      readonly deadReason?: string;
    }
  | { readonly kind: 'cancelled'; readonly report: string }
  /** `retry` counts an attempt; `again` and `give-back` do not. `unknown` counts a worker that does not know the name. */
  | {
      readonly kind: 'retry' | 'again' | 'give-back';
      readonly afterMs: number;
      readonly cause?: string;
      readonly unknown?: boolean;
    }
);

/** `status` is what the row says now: a cancellation that was asked for wins over retry, again, give-back and start. */
export type LogSettleAnswer = { readonly id: string } & (
  { readonly log: 'written'; readonly status: TaskStatus } | { readonly log: 'lost' }
);

export interface StartAnswer {
  readonly id: string;
  /** `lost`: another claim took it. Only after `started` may its handler be called. */
  readonly kind: 'started' | 'lost' | 'cancelled';
}

export interface LogSettleAnswers {
  readonly settled: readonly LogSettleAnswer[];
  readonly started: readonly StartAnswer[];
}

export interface RenewAnswer {
  readonly id: string;
  /** `cancel`: renewed, and somebody asked for its end. */
  readonly kind: 'renewed' | 'lost' | 'cancel';
}

/**
 * Changes from outside a run. `retry` sends a failed or cancelled task again under its id, with fresh attempts.
 * `fail` ends an `enqueued` task that nobody holds (its push was refused): failed, a fresh token, no message owed.
 */
export type TaskAct = 'cancel' | 'retry' | 'archive' | 'fail';

export interface ChangeOptions {
  /** Cancels or archives whatever the status; a running task is fenced by it. */
  readonly force?: boolean;
  /** For `retry`: when the new message is owed; null when it is pushed in the same commit. */
  readonly owedInMs?: number | null;
  /** For `fail`: written to the row. */
  readonly report?: string;
  readonly deadReason?: string;
}

export interface ChangeAnswer {
  readonly id: string;
  /** What the row says now; `running` after the cancellation of a running task was noted. */
  readonly status: TaskStatus;
  /** Goes with a push that follows, see `pushed`. */
  readonly generation: number;
  /** Milliseconds until the task is due. */
  readonly dueInMs: number;
}

/** Every condition given must hold. */
export interface TaskLogQuery {
  readonly ids?: readonly string[];
  readonly statuses?: readonly TaskStatus[];
  readonly notStatuses?: readonly TaskStatus[];
  readonly taskNames?: readonly string[];
  readonly queues?: readonly string[];
  readonly owner?: string;
  readonly parentId?: string;
  readonly category?: string;
  /** UTC milliseconds. */
  readonly createdBefore?: number;
  readonly createdAfter?: number;
  readonly finishedBefore?: number;
}

export interface Page {
  readonly limit: number;
  readonly offset?: number;
  /** The `next` of the page before; steadier than an offset while rows come and go. */
  readonly after?: string;
  /** By creation; default `newest`. */
  readonly order?: 'newest' | 'oldest';
}

export interface TaskLogPage {
  readonly entries: readonly TaskLogEntry[];
  readonly next?: string;
}

export interface TaskLine {
  readonly taskId: string;
  readonly kind: 'attempt' | 'log' | 'progress';
  /** UTC milliseconds. */
  readonly at: number;
  readonly text: string;
}

export interface OwedRow {
  readonly entry: TaskLogEntry;
  /** Milliseconds until the task is due; negative or 0: now. */
  readonly dueInMs: number;
}

/**
 * Stores the rows of the task log. It compares and sets; which changes are legal is the core's business.
 * Rejects with a BrokerError when the storage fails.
 */
export interface TaskLogBroker {
  readonly id: string;
  /** Other processes see the same rows. A log that is not shared cannot guard a queue that is. */
  readonly shared: boolean;
  readonly store?: Store;
  /** Creates what the rows need. Repeatable, from many processes at once. */
  createContainer(): Promise<void>;
  /** Answers the ids that were new; the others are there already and stay as they are. */
  insert(entries: readonly NewTaskLogEntry[], tx?: Transaction): Promise<string[]>;
  /** One answer per id, in the order of the ids. `owe`: a `held` row notes that its message is owed when the claim ends. */
  claim(
    ids: readonly string[],
    options: ClaimOptions & { readonly owe: boolean },
    tx?: Transaction,
  ): Promise<ClaimAnswer[]>;
  /** Answers in the order asked. The same settlement again answers `written` again. */
  settle(
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<LogSettleAnswers>;
  renew(tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]>;
  /** Answers the rows that changed. */
  change(
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
    tx?: Transaction,
  ): Promise<ChangeAnswer[]>;
  /** Rows of the queue whose message somebody owes it, oldest debt first. */
  owed(queue: string, limit: number): Promise<readonly OwedRow[]>;
  /** Clears debts where the generation still is the one given; `nextPushInMs` null: for good. Answers the ids cleared. */
  pushed(
    rows: readonly {
      readonly id: string;
      readonly generation: number;
      readonly nextPushInMs: number | null;
    }[],
  ): Promise<string[]>;
  search(query: TaskLogQuery, page: Page): Promise<TaskLogPage>;
  stats(query: TaskLogQuery): Promise<Partial<Record<TaskStatus, number>>>;
  /** A line with a token is kept only while that token holds the task. */
  append(lines: readonly (TaskLine & { readonly token?: string })[]): Promise<void>;
  lines(taskId: string, page: Page): Promise<readonly TaskLine[]>;
  close(): Promise<void>;
}
