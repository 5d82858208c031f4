import type { Delivery, OutgoingMessage } from './queue-broker.ts';
import type { Transaction } from './store.ts';
import type {
  ChangeAnswer,
  ChangeOptions,
  ClaimAnswer,
  DrawOptions,
  HeldTask,
  LogSettleAnswer,
  NewTaskLogEntry,
  RenewAnswer,
  Settlement,
  StartAnswer,
  TaskAct,
} from './task-log-broker.ts';

/** `message` absent: the row alone (sync queues, adopted tasks). */
export interface NewTask {
  readonly entry: Omit<NewTaskLogEntry, 'owedInMs'>;
  readonly message?: Omit<OutgoingMessage, 'generation'>;
}

export interface DrawnTask {
  readonly delivery: Delivery;
  readonly answer: ClaimAnswer;
}

/** What became of the message: gone or put back, held by somebody else meanwhile, or left for its lease to end. */
export type SettleAnswer = LogSettleAnswer & { readonly message: 'done' | 'lost' | 'later' };

export interface SettleAnswers {
  readonly settled: readonly SettleAnswer[];
  readonly started: readonly StartAnswer[];
}

/**
 * Queue and log moved together: everything that moves a task goes through it.
 *
 * A draw deals with `finished`, `early` and `held` deliveries itself (they are returned for the record) and leaves
 * `missing` ones in hand, for the caller to adopt, bury or release.
 */
export interface Ledger {
  /** Answers the ids that were new. In a caller's transaction nothing is visible before its commit. */
  enqueue(queue: string, tasks: readonly NewTask[], tx?: Transaction): Promise<string[]>;
  draw(queue: string, options: DrawOptions): Promise<DrawnTask[]>;
  settle(
    queue: string,
    settlements: readonly Settlement[],
    starting: readonly HeldTask[],
    tx?: Transaction,
  ): Promise<SettleAnswers>;
  /** Message lease and claim in one beat. Only the claim's answer counts. */
  renew(queue: string, tasks: readonly HeldTask[], leaseMs: number): Promise<RenewAnswer[]>;
  change(
    queue: string,
    act: TaskAct,
    ids: readonly string[],
    options: ChangeOptions,
  ): Promise<ChangeAnswer[]>;
  /** Pushes what is owed, at most `limit`; answers how many. Every worker runs it. */
  relay(queue: string, limit: number): Promise<number>;
  /** Resolves when no call is under way any more that outlived the answer to its caller. Absent: none ever does. */
  quiet?(): Promise<void>;
}
