import { describe, expect, it } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import { defineTask } from '../../src/task.ts';
import type { DefinedTask } from '../../src/task.ts';
import { isFinished } from '../../src/task-status.ts';
import { Worker } from '../../src/worker/worker.ts';
import { pause } from '../support/core.ts';
import { openFaultScene } from '../support/fault-scene.ts';
import type { FaultScene, Storage } from '../support/fault-scene.ts';
import type { Fault, Which } from '../support/faulty.ts';

const TASKS = 50;
/** A beat of the leases comes after a third of it. */
const LEASE_MS = 600;
const SLOW_MS = 300;
const PATIENCE_MS = 25_000;

/** What workers and producers call on each storage. */
const OPERATIONS: Readonly<Record<Storage, readonly string[]>> = {
  memory: [
    'broker.push',
    'broker.receive',
    'broker.acknowledge',
    'broker.release',
    'broker.extend',
    'broker.ready',
    'broker.watch',
    'log.insert',
    'log.claim',
    'log.settle',
    'log.renew',
    'log.owed',
    'log.pushed',
    'log.append',
  ],
  'one SQLite file': [
    'ledger.enqueue',
    'ledger.draw',
    'ledger.settle',
    'ledger.renew',
    'broker.ready',
    'log.append',
  ],
  'two SQLite files': [
    'broker.push',
    'broker.receive',
    'broker.acknowledge',
    'broker.release',
    'broker.extend',
    'broker.ready',
    'log.insert',
    'log.claim',
    'log.settle',
    'log.renew',
    'log.owed',
    'log.pushed',
    'log.append',
  ],
};

const FAULTS: readonly { readonly title: string; readonly fault: Fault; readonly which: Which }[] = [
  {
    title: 'fails before it is done',
    fault: { kind: 'reject-before' },
    which: (call) => call === 1 || call === 3,
  },
  {
    title: 'fails after it is done',
    fault: { kind: 'reject-after' },
    which: (call) => call === 1 || call === 3,
  },
  { title: 'is done twice', fault: { kind: 'twice' }, which: (call) => call % 2 === 1 },
  { title: 'hangs for a while', fault: { kind: 'hang' }, which: (call) => call <= 2 },
];

interface WorkParameters {
  /** The first run throws. */
  readonly failsFirst: boolean;
  readonly ms: number;
  readonly writes: boolean;
}

/** How often the handler was called for each task. */
type Runs = Map<string, number>;

function workTask(runs: Runs): DefinedTask<WorkParameters, Promise<string>> {
  return defineTask({
    name: 'work',
    retry: { maxAttempts: 5, backoff: 0, maxLapses: 20 },
    async run({ failsFirst, ms, writes }: WorkParameters, context) {
      const before = runs.get(context.taskId) ?? 0;
      runs.set(context.taskId, before + 1);
      if (writes) context.log('info', 'at work');
      if (ms > 0) await pause(ms);
      if (failsFirst && before === 0) throw new Error('The first run fails');
      return 'done';
    },
  });
}

/** Answers the ids of those that were accepted; a refusal says whether the task may run all the same. */
async function enqueueAll({ dispatcher }: FaultScene, runs: Runs): Promise<string[]> {
  const work = workTask(runs);
  const tasks = Array.from({ length: TASKS }, (_, n) =>
    work({ failsFirst: n % 5 === 0, ms: n % 10 === 1 ? SLOW_MS : 0, writes: n % 5 === 2 }),
  );
  // In two batches, so that a fault of one call does not hit them all.
  const outcomes = [];
  for (const batch of [tasks.slice(0, TASKS / 2), tasks.slice(TASKS / 2)]) {
    outcomes.push(...(await Promise.allSettled(batch.map((task) => dispatcher.enqueue(task)))));
  }
  return outcomes.flatMap((outcome) => {
    if (outcome.status === 'fulfilled') return [outcome.value.id];
    const error: unknown = outcome.reason;
    expect(isSignalboxError(error) ? error.code : error).toMatch(/^ENQUEUE_(FAILED|UNCERTAIN)$/);
    return [];
  });
}

/** Lets go what hangs, again and again; answers the function that ends it. */
function releaseHanging({ faults }: FaultScene): () => void {
  const timer = setInterval(() => faults.release(), 100);
  return () => {
    clearInterval(timer);
    faults.release();
  };
}

async function allHaveEnded(scene: FaultScene): Promise<boolean> {
  const rows = await scene.rows();
  return rows.every(({ status }) => isFinished(status)) && (await scene.messages()) === 0;
}

/** A message that is owed is pushed at the next beat of the relay only, 5 s apart; a fault may hit that too. */
async function allEnd(scene: FaultScene, isInVain: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!isInVain() && !(await allHaveEnded(scene))) {
    if (performance.now() > deadline) {
      const open = (await scene.rows()).filter(({ status }) => !isFinished(status));
      throw new Error(`${await scene.messages()} messages are left, and ${JSON.stringify(open)}`);
    }
    await pause(20);
  }
}

async function expectDrained(scene: FaultScene, accepted: readonly string[], runs: Runs): Promise<void> {
  const rows = new Map((await scene.rows()).map((row) => [row.id, row]));
  for (const id of accepted) expect(rows.get(id)).toMatchObject({ status: 'completed' });
  for (const row of rows.values()) {
    const ran = runs.get(row.id) ?? 0;
    if (row.deadReason === 'PUSH_FAILED') {
      expect(ran).toBe(0);
      continue;
    }
    expect(row).toMatchObject({ status: 'completed', pushAt: null, claimUntil: null });
    expect(ran).toBeGreaterThanOrEqual(1);
    expect(ran).toBeLessThanOrEqual(row.attempts + row.lapses);
    // Without a lapse every run has ended and is counted: none has happened twice.
    if (row.lapses === 0) expect(ran).toBe(row.attempts);
  }
  for (const id of runs.keys()) expect(rows.has(id)).toBe(true);
}

async function drainUnder(storage: Storage, operation: string, fault: Fault, which: Which): Promise<void> {
  const scene = await openFaultScene(storage);
  const stopReleasing = releaseHanging(scene);
  try {
    scene.faults.on(operation, fault, which);
    const runs: Runs = new Map();
    const accepted = await enqueueAll(scene, runs);
    await scene.passGrace();
    const worker = new Worker({
      dispatcher: scene.dispatcher,
      leaseMs: LEASE_MS,
      pollIntervalMs: 50,
      concurrency: 5,
    });
    let hasEnded = false;
    const running = worker.run().finally(() => (hasEnded = true));
    await allEnd(scene, () => hasEnded);
    expect(hasEnded).toBe(false);
    await worker.stop();
    expect(await running).toMatchObject({ reason: 'stopped', exitCode: 0 });
    await expectDrained(scene, accepted, runs);
    expect(scene.faults.count(operation)).toBeGreaterThan(0);
    if (fault.kind.startsWith('reject')) expectTold(scene, operation, accepted);
  } finally {
    stopReleasing();
    await scene.close();
  }
}

/** A failure is an event, or the error of an enqueue; one that harms nobody is at least a line in the worker's log. */
function expectTold({ errors, logger }: FaultScene, operation: string, accepted: readonly string[]): void {
  if (accepted.length < TASKS) return;
  if (['broker.ready', 'log.append'].includes(operation)) expect(logger.lines.length).toBeGreaterThan(0);
  else expect(errors.length).toBeGreaterThan(0);
}

describe.each(Object.keys(OPERATIONS) as Storage[])('50 tasks in %s are all drained', (storage) => {
  for (const { title, fault, which } of FAULTS) {
    describe.concurrent(`when a call ${title}:`, () => {
      it.each(OPERATIONS[storage])('%s', (operation) => drainUnder(storage, operation, fault, which));
    });
  }
});
