import fc from 'fast-check';
import { describe, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { Persistence, RdsQueueBroker, RdsTaskLogBroker } from '../../brokers/rds/index.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import type { Clock } from '../../src/environment.ts';
import { PASSES_MS, TaskLives } from './task-lives.ts';
import type { LifeStorage, SettleKind } from './task-lives.ts';

/** The real thing is all there is to know: what it may do next depends on it alone. */
type Model = Record<string, never>;

/** A step, and whether it makes sense yet. */
class Step implements fc.AsyncCommand<Model, TaskLives> {
  readonly #name: string;
  readonly #act: (lives: TaskLives) => Promise<void>;
  readonly #needs: (lives: TaskLives) => boolean;

  constructor(
    name: string,
    act: (lives: TaskLives) => Promise<void>,
    needs: (lives: TaskLives) => boolean = () => true,
  ) {
    this.#name = name;
    this.#act = act;
    this.#needs = needs;
  }

  check(): boolean {
    return true;
  }

  async run(_: Model, lives: TaskLives): Promise<void> {
    if (this.#needs(lives)) await this.#act(lives);
  }

  toString(): string {
    return this.#name;
  }
}

const worker = fc.nat({ max: 2 });
const which = fc.nat({ max: 20 });
const kind = fc.constantFrom<SettleKind[]>(
  'completed',
  'completed',
  'failed',
  'retry',
  'retry',
  'again',
  'give-back',
  'cancelled',
);
const hasTasks = (lives: TaskLives): boolean => lives.hasTasks;
const hasClaims = (lives: TaskLives): boolean => lives.hasClaims;

const enqueue = fc
  .boolean()
  .map((isDelayed) => new Step(`enqueue(${isDelayed})`, (lives) => lives.enqueue(isDelayed)));
const draw = fc
  .record({ by: worker, max: fc.integer({ min: 1, max: 3 }), start: fc.nat({ max: 2 }) })
  .map(
    ({ by, max, start }) => new Step(`draw(${by}, ${max}, ${start})`, (lives) => lives.draw(by, max, start)),
  );
const start = which.map((claim) => new Step(`start(${claim})`, (lives) => lives.start(claim), hasClaims));
const settle = fc
  .record({ claim: which, wanted: kind })
  .map(
    ({ claim, wanted }) =>
      new Step(`settle(${claim}, ${wanted})`, (lives) => lives.settle(claim, wanted), hasClaims),
  );
const renew = worker.map((by) => new Step(`renew(${by})`, (lives) => lives.renew(by)));
const crash = worker.map((by) => new Step(`crash(${by})`, (lives) => lives.crash(by)));
const change = fc
  .record({ act: fc.constantFrom('cancel', 'retry', 'archive'), task: which, force: fc.boolean() })
  .map(
    ({ act, task, force }) =>
      new Step(`${act}(${task}, ${force})`, (lives) => lives.change(act, task, force), hasTasks),
  );
const copy = which.map((task) => new Step(`copy(${task})`, (lives) => lives.copy(task), hasTasks));
const half = fc.constant(new Step('enqueueHalf()', (lives) => lives.enqueueHalf()));
const relay = fc.constant(new Step('relay()', (lives) => lives.relay()));
const pass = fc.constantFrom(...PASSES_MS).map((ms) => new Step(`pass(${ms})`, (lives) => lives.pass(ms)));

const steps = fc.commands(
  // What is listed twice comes twice as often.
  [
    enqueue,
    enqueue,
    draw,
    draw,
    start,
    start,
    settle,
    settle,
    renew,
    crash,
    change,
    copy,
    half,
    relay,
    pass,
    pass,
  ],
  { maxCommands: 60, size: 'max' },
);

async function live(
  open: () => Promise<LifeStorage>,
  commands: Iterable<fc.AsyncCommand<Model, TaskLives>>,
): Promise<void> {
  const lives = new TaskLives(await open());
  await fc.asyncModelRun(() => ({ model: {}, real: lives }), commands);
  await lives.end();
}

async function inMemory(): Promise<LifeStorage> {
  let now = Date.UTC(2026, 0, 1);
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => undefined };
  const broker = new InMemoryQueueBroker({ sync: false, clock });
  const log = new InMemoryTaskLogBroker({ clock });
  const pass = async (ms: number): Promise<void> => {
    now += ms;
  };
  return { broker, log, ledger: composeLedger(broker, log), now: () => now, pass };
}

/** Time passes by making all that is under way older. */
const OLDER = [
  'update tq_message set due = due - ? where state = 1',
  ...['claim_until', 'not_before', 'push_at'].map(
    (time) =>
      `update tq_task_log set ${time} = ${time} - ? where status in ('enqueued', 'dequeued', 'running')`,
  ),
];

async function inSqlite(persistence: Persistence, isComposed: boolean): Promise<LifeStorage> {
  const broker = new RdsQueueBroker(persistence);
  const log = new RdsTaskLogBroker(persistence);
  await broker.initialize([]);
  await log.createContainer();
  const knex = await persistence.knex();
  for (const table of ['tq_message', 'tq_task_log', 'tq_task_log_line'])
    await knex.raw(`delete from ${table}`);
  const own = broker.ledger(log);
  return {
    broker,
    log,
    ledger: isComposed || own === undefined ? composeLedger(broker, log) : own,
    now: () => Date.now(),
    pass: async (ms) => {
      for (const sql of OLDER) await knex.raw(sql, [ms]);
    },
  };
}

describe('whatever happens to tasks, each ends once and never changes after', () => {
  it('with a composed ledger in memory', () =>
    fc.assert(
      fc.asyncProperty(steps, (commands) => live(inMemory, commands)),
      { numRuns: 200 },
    ));

  it.each([
    { ledger: 'its own ledger', isComposed: false },
    { ledger: 'a composed ledger', isComposed: true },
  ])('with $ledger on SQLite', async ({ isComposed }) => {
    const persistence = new Persistence({ client: 'sqlite', connection: { filename: ':memory:' } });
    try {
      const open = (): Promise<LifeStorage> => inSqlite(persistence, isComposed);
      await fc.assert(
        fc.asyncProperty(steps, (commands) => live(open, commands)),
        { numRuns: 15 },
      );
    } finally {
      await persistence.close();
    }
  });
});
