import { defineTask } from '../../src/task.ts';
import { Worker } from '../../src/worker/worker.ts';
import type { BenchStore, Counts, StoreName } from './stores.ts';

export interface Figures {
  readonly store: StoreName;
  readonly workload: string;
  readonly unit: string;
  readonly value: number;
  readonly statementsPerTask?: number;
  readonly commitsPerTask?: number;
}

/** About 70 bytes of JSON, like the payload of a small task. */
const PAYLOAD = { to: 'somebody@example.org', template: 'welcome', locale: 'en' };
const CALLERS = 50;
const LATENCY_EVERY_MS = 20;

const nothing = defineTask({ name: 'bench.nothing', run: (_: typeof PAYLOAD) => null });

/** One caller after the other, then 50 callers that each await their call. */
export async function enqueue(store: BenchStore, tasks: number): Promise<Figures[]> {
  const alone = Math.ceil(tasks / 5);
  const one = await measure(store, 'enqueue, 1 caller', alone, async () => {
    for (let i = 0; i < alone; i += 1) await store.dispatcher.enqueue(nothing(PAYLOAD));
  });
  const many = await measure(store, `enqueue, ${CALLERS} callers`, tasks, async () => {
    let left = tasks;
    const call = async (): Promise<void> => {
      while (left-- > 0) await store.dispatcher.enqueue(nothing(PAYLOAD));
    };
    await Promise.all(Array.from({ length: CALLERS }, call));
  });
  return [one, many];
}

/** Everything that waits, until the last settlement is stored. */
export async function drain(store: BenchStore, tasks: number, concurrency: number): Promise<Figures> {
  const waiting = await store.dispatcher.count();
  if (waiting < tasks) throw new Error(`Only ${waiting} of ${tasks} tasks are waiting`);
  return measure(store, `drain, concurrency ${concurrency}`, waiting, async () => {
    const { processed } = await new Worker({
      dispatcher: store.dispatcher,
      concurrency,
      stopWhenEmpty: true,
    }).run();
    if (processed !== waiting) throw new Error(`${processed} of ${waiting} tasks were processed`);
  });
}

/** From the call of enqueue to the call of the handler, on an idle worker of the same process. */
export async function latency(store: BenchStore, tasks: number): Promise<Figures> {
  const delays: number[] = [];
  const probe = defineTask({
    name: 'bench.probe',
    run: ({ at }: { at: number }) => {
      delays.push(performance.now() - at);
      return null;
    },
  });
  const worker = new Worker({ dispatcher: store.dispatcher });
  const ended = worker.run();
  for (let i = 0; i < tasks; i += 1) {
    await store.dispatcher.enqueue(probe({ at: performance.now() }));
    await new Promise((resolve) => setTimeout(resolve, LATENCY_EVERY_MS));
  }
  await store.dispatcher.waitForCompletion(10_000);
  await worker.stop();
  await ended;
  delays.sort((a, b) => a - b);
  const median = delays[Math.floor(delays.length / 2)] ?? Number.NaN;
  return { store: store.name, workload: 'latency, same process', unit: 'ms (p50)', value: median };
}

async function measure(
  store: BenchStore,
  workload: string,
  tasks: number,
  work: () => Promise<void>,
): Promise<Figures> {
  const before: Counts | undefined = store.counts && { ...store.counts };
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1_000;
  const perTask =
    before === undefined || store.counts === undefined
      ? {}
      : {
          statementsPerTask: (store.counts.statements - before.statements) / tasks,
          commitsPerTask: (store.counts.commits - before.commits) / tasks,
        };
  return { store: store.name, workload, unit: 'tasks/s', value: tasks / seconds, ...perTask };
}
