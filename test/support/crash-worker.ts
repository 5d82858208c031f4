import { newId } from '../../src/environment.ts';
import { Worker } from '../../src/worker/worker.ts';
import { openCrashScene, QUEUE_NAME } from './crash-scene.ts';
import type { CrashPlace } from './crash-scene.ts';
import { Faults } from './faulty.ts';
import type { Side } from './faulty.ts';

/** What the child is told. It dies at the point, or ends well when there are fewer, and then says how many there were. */
export interface CrashOrder extends CrashPlace {
  /** Drain the queue, or enqueue one task. */
  readonly act: 'work' | 'enqueue';
  readonly point: number;
  readonly side: Side;
  /** Points are the statements of the database that may write, not the calls; and the handlers' effects as always. */
  readonly everyStatement: boolean;
  readonly leaseMs: number;
}

export interface CrashEnd {
  readonly points: number;
}

const order = JSON.parse(process.argv[2] ?? '{}') as CrashOrder;
const faults = new Faults();
const statements = new Faults();
const deaths = order.everyStatement ? statements : faults;
const scene = openCrashScene(order, {
  faults,
  // To die before or after a statement that reads is the same.
  onStatement: (sql) => {
    if (!sql.startsWith('select')) statements.point();
  },
  onEffect: () => deaths.point(),
});

async function work(): Promise<void> {
  const worker = new Worker({
    dispatcher: scene.dispatcher,
    queues: [QUEUE_NAME],
    concurrency: 1,
    leaseMs: order.leaseMs,
    stopWhenEmpty: true,
  });
  const end = await worker.run();
  if (end.exitCode !== 0) throw new Error(`The worker ended with ${JSON.stringify(end)}`);
}

async function enqueue(): Promise<void> {
  const { id } = await scene.dispatcher.enqueue(scene.note({}), { label: newId() });
  process.stdout.write(`accepted ${id}\n`);
}

// Opens the databases, which is no part of a task's life.
await scene.dispatcher.count();
await scene.taskLog.stats();
deaths.dieAt(order.point, order.side);
await (order.act === 'work' ? work() : enqueue());
deaths.disarm();
const end: CrashEnd = { points: deaths.points };
process.stdout.write(`${JSON.stringify(end)}\n`);
await scene.close();
