import { expect, it } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import type { Delivery, OutgoingMessage, QueueBroker } from '../../src/queue-broker.ts';

/** What a driver opens for each case: an empty storage of its own. */
export interface Scene {
  /** Ends the storage; may follow the `close` of what was opened. */
  close(): Promise<void>;
  /** Lets at least `ms` go by for the storage: a fake clock moves on, a real one is waited for. */
  pass(ms: number): Promise<void>;
}

export type Open<S extends Scene> = () => Promise<S>;

/** Long enough to outlast every case on a slow machine. */
export const LONG_MS = 3_600_000;
/** A lease that is meant to lapse; `pass(SHORT_PASSED_MS)` outlasts it. */
export const SHORT_MS = 200;
export const SHORT_PASSED_MS = 300;

const STEP_MS = 50;
const PATIENCE_MS = 10_000;

async function within<S extends Scene, T>(open: Open<S>, work: (scene: S) => Promise<T>): Promise<T> {
  const scene = await open();
  try {
    return await work(scene);
  } finally {
    await scene.close();
  }
}

/** Asks an opened storage for the facts that decide which cases there are. */
export function factsOf<S extends Scene, T>(open: Open<S>, read: (scene: S) => T): Promise<T> {
  return within(open, async (scene) => read(scene));
}

export type Case<S extends Scene> = (title: string, work: (scene: S) => Promise<void>) => void;

/** `it` on a storage that is opened for the case and closed after it. */
export function casesOn<S extends Scene>(open: Open<S>): Case<S> {
  return (title, work) => it(title, () => within(open, work));
}

/** Asks again, while time goes by, until the answer is defined. */
export async function eventually<T>(
  scene: Scene,
  what: string,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  for (let passed = 0; passed <= PATIENCE_MS; passed += STEP_MS) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await scene.pass(STEP_MS);
  }
  throw new Error(`${what}: nothing after ${PATIENCE_MS} ms`);
}

export function message(id: string, more: Partial<OutgoingMessage> = {}): OutgoingMessage {
  return { id, body: `body of ${id}`, generation: 1, ...more };
}

export interface BrokerScene extends Scene {
  readonly broker: QueueBroker;
}

/** One receive that does not wait. */
export function receive(
  broker: QueueBroker,
  queue: string,
  max: number = 10,
  leaseMs: number = LONG_MS,
): Promise<Delivery[]> {
  const { maxBatch, maxLeaseMs } = broker.capabilities;
  return broker.receive(queue, {
    max: Math.min(max, maxBatch),
    leaseMs: Math.min(leaseMs, maxLeaseMs),
    waitMs: 0,
    signal: new AbortController().signal,
  });
}

/** Receives until there are `wanted` deliveries. */
export async function receiveAll(
  scene: BrokerScene,
  queue: string,
  wanted: number,
  leaseMs: number = LONG_MS,
): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  return eventually(scene, `${wanted} messages of "${queue}"`, async () => {
    for (;;) {
      const more = await receive(scene.broker, queue, wanted - deliveries.length, leaseMs);
      deliveries.push(...more);
      if (deliveries.length >= wanted) return deliveries;
      if (more.length === 0) return undefined;
    }
  });
}

export async function receiveOne(
  scene: BrokerScene,
  queue: string,
  leaseMs: number = LONG_MS,
): Promise<Delivery> {
  const [delivery] = await receiveAll(scene, queue, 1, leaseMs);
  if (delivery === undefined) throw new Error(`No message of "${queue}"`);
  return delivery;
}

export function idsOf(rows: readonly { readonly id: string }[]): string[] {
  return rows.map((row) => row.id);
}

export function one<T>(items: readonly T[]): T {
  expect(items).toHaveLength(1);
  return items[0] as T;
}

export async function expectClosed(call: Promise<unknown>): Promise<void> {
  const error: unknown = await call.then(
    () => 'resolved',
    (reason: unknown) => reason,
  );
  expect(isSignalboxError(error) ? error.code : error).toBe('BROKER_CLOSED');
}
