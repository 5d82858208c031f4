import { expect } from 'vitest';
import type { DrawnTask, Ledger, NewTask } from '../../src/ledger.ts';
import type { OutgoingMessage, QueueBroker } from '../../src/queue-broker.ts';
import type { ClaimAnswer, DrawOptions, HeldTask } from '../../src/task-log-broker.ts';
import { eventually, LONG_MS } from './scene.ts';
import type { BrokerScene } from './scene.ts';
import { fieldsOf, newEntry } from './task-log-scene.ts';
import type { TaskLogScene } from './task-log-scene.ts';

export interface LedgerScene extends TaskLogScene, BrokerScene {
  readonly ledger: Ledger;
}

export const QUEUE = 'one';

interface Delays {
  /** Of the row; of the message too when it has none of its own. */
  readonly delayMs?: number;
  readonly messageDelayMs?: number;
  readonly priority?: number;
}

export function newTask(
  id: string,
  { delayMs = 0, messageDelayMs = delayMs, priority = 0 }: Delays = {},
): NewTask {
  const entry = { ...fieldsOf(newEntry(id)), priority, delayMs };
  const message: Omit<OutgoingMessage, 'generation'> = {
    id,
    body: entry.envelope,
    delayMs: messageDelayMs,
    priority,
  };
  return { entry, message };
}

let draws = 0;

type Drawing = Partial<Pick<DrawOptions, 'max' | 'leaseMs' | 'start' | 'worker'>>;

export interface Draw {
  readonly token: string;
  readonly drawn: readonly DrawnTask[];
}

/** One draw under a token of its own, which waits for nothing. */
export async function draw(scene: LedgerScene, more: Drawing = {}): Promise<Draw> {
  const { max = 10, leaseMs = LONG_MS, start = 0, worker = 'worker' } = more;
  const { maxBatch, maxLeaseMs } = scene.broker.capabilities;
  const token = `draw-${(draws += 1)}`;
  const drawn = await scene.ledger.draw(QUEUE, {
    max: Math.min(max, maxBatch),
    leaseMs: Math.min(leaseMs, maxLeaseMs),
    waitMs: 0,
    signal: new AbortController().signal,
    worker,
    token,
    start,
  });
  return { token, drawn };
}

export interface Claimed extends HeldTask {
  readonly answer: Extract<ClaimAnswer, { readonly kind: 'claimed' }>;
  readonly body: string;
}

function claimedOf({ token, drawn }: Draw): Claimed[] {
  return drawn.flatMap(({ delivery: { receipt, body }, answer }) =>
    answer.kind === 'claimed' ? [{ id: answer.id, token, receipt, answer, body }] : [],
  );
}

/** Draws until `wanted` tasks are in hand. */
export async function drawTasks(scene: LedgerScene, wanted: number, more: Drawing = {}): Promise<Claimed[]> {
  const claimed: Claimed[] = [];
  return eventually(scene, `${wanted} tasks in hand`, async () => {
    const left = wanted - claimed.length;
    claimed.push(...claimedOf(await draw(scene, { ...more, max: left })));
    return claimed.length >= wanted ? claimed : undefined;
  });
}

export async function drawTask(scene: LedgerScene, more: Drawing = {}): Promise<Claimed> {
  const [task] = await drawTasks(scene, 1, more);
  if (task === undefined) throw new Error('No task in hand');
  return task;
}

/** Draws until an answer of this kind came. */
export function drawKind(scene: LedgerScene, kind: ClaimAnswer['kind']): Promise<DrawnTask> {
  return eventually(scene, `a delivery that is ${kind}`, async () => {
    const { drawn } = await draw(scene, { start: 10 });
    return drawn.find(({ answer }) => answer.kind === kind);
  });
}

/** No draw claims anything, now or in a moment. */
export async function expectNothingToRun(scene: LedgerScene): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    expect(claimedOf(await draw(scene, { start: 10 }))).toEqual([]);
    await scene.pass(10);
  }
}

export async function expectNoMessages(broker: QueueBroker): Promise<void> {
  const { exact, ...count } = await broker.count(QUEUE);
  if (exact) expect(count).toEqual({ ready: 0, delayed: 0, leased: 0 });
}

/** A message that nobody enqueued through the ledger: a copy, or an orphan. */
export function pushCopy(broker: QueueBroker, id: string): Promise<void> {
  return broker.push(QUEUE, [{ id, body: `envelope of ${id}`, generation: 99 }]);
}
