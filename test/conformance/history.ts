import fc from 'fast-check';
import type { DrawnTask, Ledger, SettleAnswer } from '../../src/ledger.ts';
import type { QueueBroker, QueueCount, Receipt } from '../../src/queue-broker.ts';
import type {
  ChangeAnswer,
  HeldTask,
  Settlement,
  TaskAct,
  TaskLogBroker,
  TaskLogEntry,
} from '../../src/task-log-broker.ts';
import { newTask, QUEUE } from './ledger-scene.ts';

/**
 * Random histories of a ledger. The same history run on two ledgers over the same kind of storage gives the same
 * outcome: ids and tokens are the history's, and every duration is nothing, an hour or a hundred hours, so that only
 * `age` decides what has lapsed and never the speed of the machine.
 */
const HOUR_MS = 3_600_000;

/** In hours. */
type Span = 0 | 1 | 100;

/** A claim that the history made before: 0 is the latest; whether it is still valid is up to the history. */
interface Hand {
  readonly back: number;
  readonly forged: boolean;
}

export type Command =
  | {
      readonly act: 'enqueue';
      readonly tasks: readonly { readonly task: number; readonly delay: Span; readonly priority: number }[];
    }
  | { readonly act: 'draw'; readonly max: number; readonly start: number; readonly lease: 1 | 100 }
  | {
      readonly act: 'settle';
      readonly settlements: readonly (Hand & {
        readonly kind: Settlement['kind'];
        readonly after: Span;
        readonly unknown: boolean;
      })[];
      readonly starting: readonly Hand[];
    }
  | { readonly act: 'renew'; readonly hands: readonly Hand[]; readonly lease: 1 | 100 }
  | {
      readonly act: 'change';
      readonly change: TaskAct;
      readonly tasks: readonly number[];
      readonly force: boolean;
    }
  | { readonly act: 'relay'; readonly limit: number }
  | { readonly act: 'copy'; readonly task: number }
  | { readonly act: 'age'; readonly hours: 3 | 300 };

export interface HistoryOutcome {
  /** One per command, without times, receipts and generations. */
  readonly answers: readonly unknown[];
  /** By id; times in hours after the creation of their row. */
  readonly rows: readonly unknown[];
  readonly count: QueueCount;
}

export interface HistoryOptions {
  /** How many messages a draw may take. Default 1, 2, 3 or 100. */
  readonly draws?: readonly number[];
  /** Whether further messages of a task are pushed past the ledger. Default true. */
  readonly copies?: boolean;
}

const TASKS = 6;
const FORGED = 'forged';

export function historyCommands(options: HistoryOptions = {}): fc.Arbitrary<Command[]> {
  const { draws = [1, 2, 3, 100], copies = true } = options;
  const task = fc.nat({ max: TASKS - 1 });
  const span = fc.constantFrom<Span[]>(0, 0, 1, 100);
  const lease = fc.constantFrom<(1 | 100)[]>(1, 100);
  const forged = fc.integer({ min: 0, max: 9 }).map((chance) => chance === 0);
  const hand = { back: fc.nat({ max: 4 }), forged };
  const kind = fc.constantFrom<Settlement['kind'][]>(
    'completed',
    'failed',
    'child_running',
    'cancelled',
    'retry',
    'retry',
    'again',
    'give-back',
  );
  const settlement = fc.record({ ...hand, kind, after: span, unknown: fc.boolean() });
  const few = { maxLength: 4 };
  const commands: fc.WeightedArbitrary<Command>[] = [
    weighted(4, {
      act: fc.constant('enqueue' as const),
      tasks: fc.array(fc.record({ task, delay: span, priority: fc.constantFrom(0, 0, 5) }), {
        ...few,
        minLength: 1,
      }),
    }),
    weighted(6, {
      act: fc.constant('draw' as const),
      max: fc.constantFrom(...draws),
      start: fc.nat({ max: 3 }),
      lease,
    }),
    weighted(6, {
      act: fc.constant('settle' as const),
      settlements: fc.array(settlement, few),
      starting: fc.array(fc.record(hand), few),
    }),
    weighted(2, { act: fc.constant('renew' as const), hands: fc.array(fc.record(hand), few), lease }),
    weighted(3, {
      act: fc.constant('change' as const),
      change: fc.constantFrom<TaskAct[]>('cancel', 'retry', 'archive', 'fail'),
      tasks: fc.array(task, few),
      force: fc.boolean(),
    }),
    weighted(1, { act: fc.constant('relay' as const), limit: fc.constantFrom(1, 100) }),
    weighted(3, { act: fc.constant('age' as const), hours: fc.constantFrom<(3 | 300)[]>(3, 3, 300) }),
  ];
  if (copies) commands.push(weighted(2, { act: fc.constant('copy' as const), task }));
  return fc.array(fc.oneof(...commands), { minLength: 1, maxLength: 60, size: 'max' });
}

function weighted<T extends Command>(
  weight: number,
  fields: { readonly [K in keyof T]: fc.Arbitrary<T[K]> },
): fc.WeightedArbitrary<T> {
  return { weight, arbitrary: fc.record(fields) };
}

/**
 * Runs the commands on an empty storage. `age` makes everything that is stored older by so many milliseconds, and what
 * has lapsed by it must be found by the very next call.
 */
export async function runHistory(
  ledger: Ledger,
  log: TaskLogBroker,
  broker: QueueBroker,
  commands: readonly Command[],
  age: (ms: number) => Promise<void>,
): Promise<HistoryOutcome> {
  const history = new History(ledger, broker, age);
  const answers: unknown[] = [];
  for (const command of commands) answers.push(await history.run(command));
  const { entries } = await log.search({}, { limit: 2 * TASKS, order: 'oldest' });
  const rows = entries.toSorted((a, b) => (a.id < b.id ? -1 : 1)).map(timeless);
  return { answers, rows, count: await broker.count(QUEUE) };
}

class History {
  readonly #ledger: Ledger;
  readonly #broker: QueueBroker;
  readonly #age: (ms: number) => Promise<void>;
  readonly #hands: (HeldTask & { readonly receipt: Receipt })[] = [];
  readonly #settled = new Set<string>();
  #commands = 0;

  constructor(ledger: Ledger, broker: QueueBroker, age: (ms: number) => Promise<void>) {
    this.#ledger = ledger;
    this.#broker = broker;
    this.#age = age;
  }

  async run(command: Command): Promise<unknown> {
    this.#commands += 1;
    switch (command.act) {
      case 'enqueue':
        return this.#enqueue(command);
      case 'draw':
        return this.#draw(command);
      case 'settle':
        return this.#settle(command);
      case 'renew':
        return this.#renew(command);
      case 'change':
        return this.#change(command);
      case 'relay':
        return this.#ledger.relay(QUEUE, command.limit);
      case 'copy': {
        const id = idOf(command.task);
        return this.#broker.push(QUEUE, [{ id, body: `copy of ${id}`, generation: this.#commands }]);
      }
      case 'age':
        return this.#age(command.hours * HOUR_MS);
    }
  }

  /** One task a call: in which order a ledger sends several again is its own affair. */
  async #change({ change, tasks, force }: Extract<Command, { act: 'change' }>): Promise<unknown> {
    const answers: unknown[] = [];
    for (const id of new Set(tasks.map(idOf))) {
      answers.push((await this.#ledger.change(QUEUE, change, [id], { force })).map(changed));
    }
    return answers;
  }

  async #enqueue({ tasks }: Extract<Command, { act: 'enqueue' }>): Promise<unknown> {
    const byId = new Map(tasks.map((task) => [idOf(task.task), task]));
    const added = await this.#ledger.enqueue(
      QUEUE,
      [...byId].map(([id, { delay, priority }]) => newTask(id, { delayMs: delay * HOUR_MS, priority })),
    );
    return added.toSorted();
  }

  async #draw({ max, start, lease }: Extract<Command, { act: 'draw' }>): Promise<unknown> {
    const token = `token-${this.#commands}`;
    const drawn = await this.#ledger.draw(QUEUE, {
      max,
      start,
      leaseMs: lease * HOUR_MS,
      waitMs: 0,
      signal: new AbortController().signal,
      worker: `worker-${this.#commands % 3}`,
      token,
    });
    for (const { delivery, answer } of drawn) {
      if (answer.kind === 'claimed') this.#hands.unshift({ id: answer.id, token, receipt: delivery.receipt });
    }
    return drawn.map(withoutTimes).toSorted((a, b) => (a[0] < b[0] ? -1 : 1));
  }

  /** One settlement or start an id: a worker never says two things about one task in one breath. */
  async #settle(command: Extract<Command, { act: 'settle' }>): Promise<unknown> {
    const settlements = new Map<string, Settlement>();
    for (const { kind, after, unknown, ...hand } of command.settlements) {
      const [task] = this.#held([hand]);
      if (task === undefined || settlements.has(task.id)) continue;
      const report = `report of command ${this.#commands}`;
      settlements.set(
        task.id,
        kind === 'retry' || kind === 'again' || kind === 'give-back'
          ? { task, kind, afterMs: after * HOUR_MS, unknown, cause: report }
          : { task, kind, report },
      );
    }
    const starting = this.#held(command.starting).filter((task) => !settlements.has(task.id));
    const tasks = [...settlements.values()].map((settlement) => settlement.task);
    const { settled, started } = await this.#ledger.settle(QUEUE, [...settlements.values()], starting);
    return { settled: settled.map((answer, index) => this.#told(answer, tasks[index])), started };
  }

  /** A forged renewal has no receipt: it would move the lease of a message apart from its claim. */
  async #renew({ hands, lease }: Extract<Command, { act: 'renew' }>): Promise<unknown> {
    const tasks = this.#held(hands).map(({ id, token, ...rest }) =>
      token === FORGED ? { id, token } : { id, token, ...rest },
    );
    return this.#ledger.renew(QUEUE, tasks, lease * HOUR_MS);
  }

  /** What became of the message only the first time: of one that is gone a broker cannot say who took it. */
  #told({ message, ...answer }: SettleAnswer, task: HeldTask | undefined): unknown {
    const claim = `${answer.id} ${task?.token}`;
    if (answer.log === 'lost' || this.#settled.has(claim)) return answer;
    this.#settled.add(claim);
    return { ...answer, message };
  }

  #held(hands: readonly Hand[]): HeldTask[] {
    const byId = new Map<string, HeldTask>();
    for (const { back, forged } of hands) {
      const task = this.#hands[back];
      if (task === undefined || byId.has(task.id)) continue;
      byId.set(task.id, forged ? { ...task, token: FORGED } : task);
    }
    return [...byId.values()];
  }
}

function idOf(task: number): string {
  return `task-${task}`;
}

function withoutTimes({ delivery, answer }: DrawnTask): readonly [string, unknown] {
  const { id, body } = delivery;
  switch (answer.kind) {
    case 'claimed': {
      const { kind, started, attempts, lapses, unknowns, lapsed } = answer;
      return [id, { body, kind, started, attempts, lapses, unknowns, lapsed }];
    }
    case 'finished':
      return [id, { body, kind: answer.kind, status: answer.status }];
    case 'held':
    case 'early':
    case 'missing':
      return [id, { body, kind: answer.kind }];
  }
}

function changed({ id, status, dueInMs }: ChangeAnswer): unknown {
  return { id, status, dueInHours: hours(dueInMs) };
}

function hours(ms: number): number {
  // Never the negative zero, which would not equal zero.
  return Math.round(ms / HOUR_MS) + 0;
}

function timeless(row: TaskLogEntry): unknown {
  const { id, status, attempts, lapses, unknowns, report, worker, deadReason, createdAt } = row;
  const since = (time: number | null): number | null => (time === null ? null : hours(time - createdAt));
  return {
    id,
    status,
    attempts,
    lapses,
    unknowns,
    report,
    worker,
    deadReason,
    notBefore: since(row.notBefore),
    claimUntil: since(row.claimUntil),
    cancelRequestedAt: since(row.cancelRequestedAt),
    startedAt: since(row.startedAt),
    finishedAt: since(row.finishedAt),
  };
}
