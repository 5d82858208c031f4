import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Persistence } from '../../brokers/rds/index.ts';
import type { TaskLogEntry } from '../../src/task-log-broker.ts';
import { Worker } from '../../src/worker/worker.ts';
import { startChild } from '../support/children.ts';
import type { ChildEnd } from '../support/children.ts';
import { effectsOf, openCrashScene, QUEUE_NAME } from '../support/crash-scene.ts';
import type { CrashPlace, CrashScene, NoteParameters } from '../support/crash-scene.ts';
import type { CrashEnd, CrashOrder } from '../support/crash-worker.ts';
import type { Side } from '../support/faulty.ts';
import { until } from '../support/core.ts';

/** Queue and log: in one database with the driver's ledger, in one with a composed ledger, in two databases. */
type Layout = 'own ledger' | 'composed ledger' | 'two databases';

/** More than any run passes: a child that never survives is a fault of the test. */
const MOST_POINTS = 200;
const CHILDREN = 2;
/** A beat of the child's leases comes after a third of it; its rest takes less, so that the calls come in one order. */
const CHILD_LEASE_MS = 450;
/** Leases, claims and debts of a dead child are moved so far into the past, rather than waited for. */
const LONG_AGO_MS = 3_600_000;

const TASKS: readonly NoteParameters[] = [{}, { failsFirst: true }, { writes: true, isLong: true }];

interface Attempt {
  readonly place: CrashPlace;
  readonly scene: CrashScene;
}

async function inFreshDatabase<T>(layout: Layout, work: (attempt: Attempt) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'signalbox-crash-'));
  const queueFile = join(folder, 'queue.sqlite');
  const place: CrashPlace = {
    queueFile,
    logFile: layout === 'two databases' ? join(folder, 'log.sqlite') : queueFile,
    effectsFile: join(folder, 'effects'),
    ledger: layout === 'own ledger' ? 'own' : 'composed',
  };
  const scene = openCrashScene(place);
  try {
    await scene.initialize();
    return await work({ place, scene });
  } finally {
    await scene.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What would have happened to the rows had the time gone by. */
async function letTimePass({ databases: [queues, logs] }: CrashScene): Promise<void> {
  const run = async (database: Persistence | undefined, sql: string): Promise<void> => {
    await (await database?.knex())?.raw(sql);
  };
  await run(queues, `update tq_message set due = due - ${LONG_AGO_MS} where state = 1`);
  await run(
    logs,
    `update tq_task_log set claim_until = claim_until - ${LONG_AGO_MS}, push_at = push_at - ${LONG_AGO_MS},
      not_before = not_before - ${LONG_AGO_MS}`,
  );
}

async function rowsOf({ taskLog }: CrashScene): Promise<Map<string, TaskLogEntry>> {
  const { entries } = await taskLog.search({}, { limit: 100 });
  return new Map(entries.map((entry) => [entry.id, entry]));
}

/** A worker in this process that nothing happens to, until all tasks have ended and no message is left. */
async function drain({ dispatcher, broker }: CrashScene): Promise<void> {
  const worker = new Worker({ dispatcher, leaseMs: 30_000, pollIntervalMs: 20 });
  const running = worker.run();
  try {
    expect(await dispatcher.waitForCompletion(20_000)).toBe(true);
    await until('no message is left', async () => {
      const { ready, delayed, leased } = await broker.count(QUEUE_NAME);
      return ready + delayed + leased === 0;
    });
  } finally {
    await worker.stop();
    await running;
  }
}

function expectDead(end: ChildEnd): void {
  expect({ signal: end.signal, stderr: end.stderr }).toEqual({ signal: 'SIGKILL', stderr: '' });
}

/** Whether the child came to that point; when it did not, it has ended well. */
async function dies(order: CrashOrder): Promise<{ readonly dead: boolean; readonly end: ChildEnd }> {
  const end = await startChild('crash-worker', order).ended;
  if (end.signal === null) {
    expect({ exitCode: end.exitCode, stderr: end.stderr }).toEqual({ exitCode: 0, stderr: '' });
    const { points } = JSON.parse(end.stdout.trim().split('\n').at(-1) ?? '') as CrashEnd;
    expect(points).toBeLessThan(order.point);
    return { dead: false, end };
  }
  expectDead(end);
  return { dead: true, end };
}

/** Tries point after point, a few at a time, until one is beyond the end; answers how many were passed. */
async function everyPoint(
  sides: readonly Side[],
  dies: (point: number, side: Side) => Promise<boolean>,
): Promise<number> {
  let next = 0;
  let last = MOST_POINTS;
  const lane = async (): Promise<void> => {
    while (next < last) {
      const point = (next += 1);
      for (const side of sides) if (!(await dies(point, side))) last = Math.min(last, point - 1);
    }
  };
  await Promise.all(Array.from({ length: CHILDREN }, lane));
  return last;
}

async function killWhileWorking(layout: Layout, point: number, side: Side): Promise<boolean> {
  return inFreshDatabase(layout, async ({ place, scene }) => {
    const ids: string[] = [];
    for (const parameters of TASKS) ids.push((await scene.dispatcher.enqueue(scene.note(parameters))).id);
    const everyStatement = layout === 'own ledger';
    const { dead } = await dies({
      ...place,
      act: 'work',
      point,
      side,
      everyStatement,
      leaseMs: CHILD_LEASE_MS,
    });
    const atDeath = await rowsOf(scene);
    const effectsAtDeath = effectsOf(place).length;
    await letTimePass(scene);
    await drain(scene);
    expectEndedOnce(ids, await rowsOf(scene), effectsOf(place), `${point} ${side}`);
    await expectFinishedUntouched(atDeath, scene, place, effectsAtDeath);
    return dead;
  });
}

/** Every task has ended well, its effect has happened, and no run happened that the row does not count. */
function expectEndedOnce(
  ids: readonly string[],
  rows: ReadonlyMap<string, TaskLogEntry>,
  effects: readonly { readonly taskId: string }[],
  where: string,
): void {
  expect([...rows.keys()].toSorted(), where).toEqual(ids.toSorted());
  for (const [id, row] of rows) {
    const runs = effects.filter((effect) => effect.taskId === id).length;
    expect(row, where).toMatchObject({ status: 'completed', pushAt: null, claimUntil: null });
    expect(runs, where).toBeGreaterThanOrEqual(1);
    expect(runs, where).toBeLessThanOrEqual(row.attempts + row.lapses);
    // One process died: it cannot have lost more than one run of a task.
    expect(row.lapses, where).toBeLessThanOrEqual(1);
    expect(row.attempts, where).toBeLessThanOrEqual(2);
  }
}

/** What was settled when the child died is not run again, and its row stays as it was. */
async function expectFinishedUntouched(
  atDeath: ReadonlyMap<string, TaskLogEntry>,
  scene: CrashScene,
  place: CrashPlace,
  effectsAtDeath: number,
): Promise<void> {
  const finished = [...atDeath.values()].filter(({ status }) => status === 'completed');
  const later = effectsOf(place).slice(effectsAtDeath);
  const now = await rowsOf(scene);
  for (const row of finished) {
    expect(later.filter(({ taskId }) => taskId === row.id)).toEqual([]);
    const { status, attempts, lapses, worker, report, finishedAt } = row;
    expect(now.get(row.id)).toMatchObject({ status, attempts, lapses, worker, report, finishedAt });
  }
}

async function killWhileEnqueueing(layout: Layout, point: number, side: Side): Promise<boolean> {
  return inFreshDatabase(layout, async ({ place, scene }) => {
    const everyStatement = layout === 'own ledger';
    const order: CrashOrder = {
      ...place,
      act: 'enqueue',
      point,
      side,
      everyStatement,
      leaseMs: CHILD_LEASE_MS,
    };
    const { dead, end } = await dies(order);
    const [, accepted] = /^accepted (.+)$/m.exec(end.stdout) ?? [];
    const rows = await rowsOf(scene);
    const { ready, delayed, leased } = await scene.broker.count(QUEUE_NAME);
    if (accepted !== undefined) expect([...rows.keys()]).toEqual([accepted]);
    if (rows.size === 0) expect(ready + delayed + leased).toBe(0);
    await letTimePass(scene);
    await drain(scene);
    const effects = effectsOf(place);
    expectEndedOnce([...rows.keys()], await rowsOf(scene), effects, `${point} ${side}`);
    expect(effects).toHaveLength(rows.size);
    return dead;
  });
}

describe('a worker that is killed at any point between draw and settlement loses no task', () => {
  it('with queue and log in one database, at every statement that writes and every effect', async () => {
    const points = await everyPoint(['before'], (point, side) => killWhileWorking('own ledger', point, side));
    expect(points).toBeGreaterThan(25);
  });

  it('with a composed ledger on one database, before and after every call', async () => {
    const points = await everyPoint(['before', 'after'], (point, side) =>
      killWhileWorking('composed ledger', point, side),
    );
    expect(points).toBeGreaterThan(15);
  });

  it('with queue and log in two databases, before and after every call', async () => {
    const points = await everyPoint(['before', 'after'], (point, side) =>
      killWhileWorking('two databases', point, side),
    );
    expect(points).toBeGreaterThan(15);
  });
});

describe('a producer that is killed at any point of enqueue leaves a whole task or nothing', () => {
  it('with queue and log in one database, at every statement that writes', async () => {
    const points = await everyPoint(['before'], (point, side) =>
      killWhileEnqueueing('own ledger', point, side),
    );
    expect(points).toBeGreaterThanOrEqual(4);
  });

  it('with queue and log in two databases, before and after every call', async () => {
    const points = await everyPoint(['before', 'after'], (point, side) =>
      killWhileEnqueueing('two databases', point, side),
    );
    expect(points).toBeGreaterThanOrEqual(3);
  });
});
