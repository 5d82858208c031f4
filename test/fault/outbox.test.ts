import { describe, expect, it } from 'vitest';
import { InMemoryQueueBroker, InMemoryTaskLogBroker } from '../../brokers/memory.ts';
import { composeLedger } from '../../src/composed-ledger.ts';
import { BrokerError } from '../../src/errors.ts';
import type { Ledger } from '../../src/ledger.ts';
import { Queue } from '../../src/queue.ts';
import type { OutgoingMessage, QueueBroker } from '../../src/queue-broker.ts';
import { defineTask } from '../../src/task.ts';
import type { TaskLogBroker } from '../../src/task-log-broker.ts';
import { draw, newTask, QUEUE } from '../conformance/ledger-scene.ts';
import { newEntry, rowOf } from '../conformance/task-log-scene.ts';
import { intercepted, memoryCore } from '../support/core.ts';
import { unavailable } from '../support/faulty.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Push = (messages: readonly OutgoingMessage[], push: () => unknown) => unknown;

interface Scene {
  readonly clock: ManualClock;
  readonly broker: QueueBroker;
  readonly log: TaskLogBroker;
  readonly ledger: Ledger;
  readonly told: { readonly operation: string; readonly error: unknown }[];
  /** The ids of every push that was tried. */
  readonly pushes: (readonly string[])[];
  /** Takes the place of the broker's push from now on. */
  readonly onPush: (push: Push) => void;
  readonly ready: () => Promise<number>;
}

function openScene(): Scene {
  const clock = new ManualClock();
  const plain = new InMemoryQueueBroker({ sync: false, clock });
  let around: Push = (_, push) => push();
  const pushes: (readonly string[])[] = [];
  const broker = intercepted(plain, async (method, call, args) => {
    if (method !== 'push') return call();
    const messages = args[1] as readonly OutgoingMessage[];
    pushes.push(messages.map(({ id }) => id));
    return around(messages, call);
  });
  const log = new InMemoryTaskLogBroker({ clock });
  const told: { operation: string; error: unknown }[] = [];
  const ledger = composeLedger(broker, log, {
    onError: (operation, _, error) => told.push({ operation, error }),
  });
  return {
    clock,
    broker,
    log,
    ledger,
    told,
    pushes,
    onPush: (push) => (around = push),
    ready: async () => (await plain.count(QUEUE)).ready,
  };
}

function refusing(poison: string): Push {
  return (messages, push) => {
    if (messages.some(({ body }) => body.includes(poison))) {
      throw new BrokerError('BROKER_FAILED', 'That message cannot be carried.');
    }
    return push();
  };
}

const note = defineTask({ name: 'note', run: (_: { readonly text: string }) => 'noted' });

/** Enqueues all at once; the codes of those that were refused, by their text. */
async function enqueueAll(scene: Scene, texts: readonly string[]): Promise<Record<string, string>> {
  const { broker, log, clock } = scene;
  const core = memoryCore({ clock, logBroker: log, queues: [new Queue(QUEUE, broker)] });
  const ends = await Promise.allSettled(texts.map((text) => core.dispatcher.enqueue(note({ text }))));
  return Object.fromEntries(
    ends.flatMap((end, index) =>
      end.status === 'rejected' ? [[texts[index] ?? '', (end.reason as BrokerError).code]] : [],
    ),
  );
}

const TEXTS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];

describe('a push of several messages', () => {
  it('fails only the task whose message the broker refuses', async () => {
    const scene = openScene();
    scene.onPush(refusing('four'));
    expect(await enqueueAll(scene, TEXTS)).toEqual({ four: 'ENQUEUE_FAILED' });
    expect(await scene.log.stats({})).toEqual({ enqueued: 9, failed: 1 });
    const { entries } = await scene.log.search({ statuses: ['failed'] }, { limit: 10 });
    expect(entries).toMatchObject([{ deadReason: 'PUSH_FAILED', pushAt: null }]);
    expect(entries[0]?.envelope).toContain('four');
    expect(await scene.ready()).toBe(9);
    expect(scene.pushes[0]).toHaveLength(TEXTS.length);
  });

  it('is tried once in an outage, and fails all of its tasks', async () => {
    const scene = openScene();
    scene.onPush(() => {
      throw unavailable('push', 'nothing was done');
    });
    expect(Object.keys(await enqueueAll(scene, TEXTS))).toEqual(TEXTS);
    expect(scene.pushes).toHaveLength(1);
    expect(await scene.log.stats({})).toEqual({ failed: 10 });
  });

  it('finds the culprit of an error without a code, too', async () => {
    const scene = openScene();
    scene.onPush((messages, push) => {
      if (messages.some(({ body }) => body.includes('ten'))) throw new TypeError('not a string');
      return push();
    });
    expect(await enqueueAll(scene, TEXTS)).toEqual({ ten: 'ENQUEUE_FAILED' });
  });

  it('that arrived in part is a failure only of those tasks that nobody works on', async () => {
    const scene = openScene();
    const { ledger, broker, log } = scene;
    scene.onPush(async (messages) => {
      scene.onPush((_, push) => push());
      await broker.push(QUEUE, messages.slice(0, 1));
      await draw({ ...scene, close: async () => undefined, pass: (ms) => scene.clock.advance(ms) });
      throw unavailable('push', 'some of it was done');
    });
    expect(await enqueueAll(scene, ['one', 'two'])).toEqual({ two: 'ENQUEUE_FAILED' });
    expect(await log.stats({})).toEqual({ dequeued: 1, failed: 1 });
    expect(await ledger.relay(QUEUE, 10)).toBe(0);
  });

  it('is uncertain only for the task that was refused and whose row could not be told so', async () => {
    const scene = openScene();
    scene.onPush(refusing('two'));
    const log = intercepted(scene.log, (method, call) => {
      if (method === 'change') throw unavailable('change', 'nothing was done');
      return call();
    });
    expect(await enqueueAll({ ...scene, log }, TEXTS)).toEqual({ two: 'ENQUEUE_UNCERTAIN' });
    expect(await scene.ready()).toBe(9);
  });

  it('names every refused task, and those that were new, to whoever enqueues through the ledger', async () => {
    const { ledger, onPush } = openScene();
    await ledger.enqueue(QUEUE, [newTask('old')]);
    onPush(refusing('of bad'));
    const error: unknown = await ledger
      .enqueue(
        QUEUE,
        ['good', 'bad-1', 'old', 'bad-2'].map((id) => newTask(id)),
      )
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ENQUEUE_FAILED', added: ['good', 'bad-1', 'bad-2'] });
    const { refusals } = error as { refusals: ReadonlyMap<string, BrokerError> };
    expect([...refusals.keys()]).toEqual(['bad-1', 'bad-2']);
    expect(refusals.get('bad-2')).toMatchObject({
      code: 'ENQUEUE_FAILED',
      cause: { code: 'BROKER_FAILED' },
      place: { task: 'bad-2', queue: QUEUE },
    });
  });

  it('of tasks that an operator sends again leaves only the refused message owed', async () => {
    const { ledger, log, ready, onPush, told } = openScene();
    const ids = ['good-1', 'bad', 'good-2'];
    await log.insert(ids.map((id) => newEntry(id)));
    await log.change('fail', ids, {});
    onPush(refusing('of bad'));
    expect(await ledger.change(QUEUE, 'retry', ids, {})).toHaveLength(3);
    expect(await ready()).toBe(2);
    expect((await rowOf(log, 'good-1')).pushAt).toBeNull();
    expect((await rowOf(log, 'bad')).pushAt).not.toBeNull();
    expect(told).toMatchObject([{ operation: 'push', error: { code: 'BROKER_FAILED' } }]);
  });
});

/** Rows as a crash between row and message leaves them. */
async function owe({ log, clock }: Scene, ids: readonly string[]): Promise<void> {
  for (const id of ids) await log.insert([newEntry(id, { owedInMs: 0 })]);
  await clock.advance(1);
}

describe('a draw', () => {
  it('gives a message back whose row another statement has locked, and draws it once that is over', async () => {
    const scene = openScene();
    const { clock, broker, log } = scene;
    let isLocked = true;
    const skipping = intercepted(log, (method, call, args) =>
      method === 'claim' && isLocked
        ? Promise.resolve((args[0] as readonly string[]).map((id) => ({ id, kind: 'missing' })))
        : call(),
    );
    const ledger = composeLedger(broker, skipping);
    await ledger.enqueue(QUEUE, [newTask('a')]);
    const drawing = {
      ...scene,
      ledger,
      close: async () => undefined,
      pass: (ms: number) => clock.advance(ms),
    };
    expect((await draw(drawing)).drawn).toHaveLength(1);
    isLocked = false;
    expect((await draw(drawing)).drawn).toEqual([]);
    await clock.advance(1_000);
    expect((await draw(drawing)).drawn).toMatchObject([{ answer: { id: 'a', kind: 'claimed' } }]);
  });
});

describe('the relay', () => {
  it('pushes what is owed past a message that the broker refuses, and tries that one again in some minutes', async () => {
    const scene = openScene();
    const { ledger, log, clock, told, ready, onPush, pushes } = scene;
    await owe(scene, ['bad', 'good-1', 'good-2', 'good-3']);
    onPush(refusing('of bad'));
    expect(await ledger.relay(QUEUE, 500)).toBe(3);
    expect(await ready()).toBe(3);
    expect(told).toMatchObject([{ operation: 'relay', error: { code: 'BROKER_FAILED' } }]);
    expect(await rowOf(log, 'bad')).toMatchObject({ status: 'enqueued' });

    const tried = pushes.length;
    await clock.advance(60_000);
    expect(await ledger.relay(QUEUE, 500)).toBe(0);
    expect(pushes).toHaveLength(tried);

    onPush((_, push) => push());
    await clock.advance(300_000);
    expect(await ledger.relay(QUEUE, 500)).toBe(1);
    expect((await rowOf(log, 'bad')).pushAt).toBeNull();
    expect(await ready()).toBe(4);
  });

  it('rejects in an outage after one call, and everything stays owed', async () => {
    const scene = openScene();
    const { ledger, ready, onPush, pushes } = scene;
    await owe(scene, ['a', 'b', 'c', 'd']);
    onPush(() => {
      throw unavailable('push', 'nothing was done');
    });
    await expect(ledger.relay(QUEUE, 500)).rejects.toMatchObject({ code: 'BROKER_UNAVAILABLE' });
    expect(pushes).toHaveLength(1);
    onPush((_, push) => push());
    expect(await ledger.relay(QUEUE, 500)).toBe(4);
    expect(await ready()).toBe(4);
  });

  it.each([
    { retentionMs: 600_000, againMs: 300_000 },
    { retentionMs: 86_400_000, againMs: 82_800_000 },
  ])('repeats a push before a broker forgets it after $retentionMs ms, and no sooner', async (times) => {
    const { retentionMs, againMs } = times;
    const { broker, log, clock } = openScene();
    const capabilities = { ...broker.capabilities, retentionMs };
    const forgetful = new Proxy(broker, {
      get: (target, key): unknown => (key === 'capabilities' ? capabilities : Reflect.get(target, key)),
    });
    const ledger = composeLedger(forgetful, log);
    await ledger.enqueue(QUEUE, [newTask('a')]);
    await clock.advance(againMs - 1);
    expect(await ledger.relay(QUEUE, 10)).toBe(0);
    await clock.advance(1);
    expect(await ledger.relay(QUEUE, 10)).toBe(1);
    expect(await ledger.relay(QUEUE, 10)).toBe(0);
  });
});
