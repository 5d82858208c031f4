import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Batcher } from '../../src/batcher.ts';
import { BrokerError } from '../../src/errors.ts';

/** Long enough for a batch that was asked for in the turn before to be on its way. */
async function aTurn(): Promise<void> {
  await setImmediate();
  await setImmediate();
}

interface Flush {
  readonly items: readonly number[];
  finish(outcomes?: readonly string[]): void;
  fail(error: unknown): void;
}

const answer = (item: number): string => `done ${item}`;

/** A flush that the test ends by hand. */
function gated(): { flushes: Flush[]; flush: (items: readonly number[]) => Promise<readonly string[]> } {
  const flushes: Flush[] = [];
  const flush = (items: readonly number[]): Promise<readonly string[]> =>
    new Promise((resolve, reject) => {
      flushes.push({ items, finish: (outcomes = items.map(answer)) => resolve(outcomes), fail: reject });
    });
  return { flushes, flush };
}

function itemsOf(flushes: readonly Flush[]): (readonly number[])[] {
  return flushes.map((flush) => flush.items);
}

describe('a batcher', () => {
  it('gathers a synchronous burst into one batch and answers each item', async () => {
    const batches: (readonly number[])[] = [];
    const batcher = new Batcher<number, string>({
      flush: async (items) => {
        batches.push(items);
        return items.map(answer);
      },
    });
    expect(await Promise.all([1, 2, 3].map((item) => batcher.add(item)))).toEqual([
      'done 1',
      'done 2',
      'done 3',
    ]);
    expect(batches).toEqual([[1, 2, 3]]);
  });

  it('flushes nothing before the end of the turn, and then without a timer', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush });
    const first = batcher.add(1);
    expect(flushes).toHaveLength(0);
    await aTurn();
    expect(itemsOf(flushes)).toEqual([[1]]);
    flushes[0]?.finish();
    expect(await first).toBe('done 1');
  });

  it('makes the next batch of what gathers while a flush is under way', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush, concurrency: 1 });
    const answers = [batcher.add(1)];
    for (const item of [2, 3, 4]) {
      await aTurn();
      answers.push(batcher.add(item));
    }
    await aTurn();
    expect(itemsOf(flushes)).toEqual([[1]]);
    flushes[0]?.finish();
    await aTurn();
    expect(itemsOf(flushes)).toEqual([[1], [2, 3, 4]]);
    flushes[1]?.finish();
    expect(await Promise.all(answers)).toEqual([1, 2, 3, 4].map(answer));
  });

  it('puts what callers add upon their answer into one batch', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush, concurrency: 1 });
    const callers = [1, 2, 3].map(async (item) => {
      await batcher.add(item);
      return batcher.add(item * 10);
    });
    await aTurn();
    flushes[0]?.finish();
    await aTurn();
    expect(itemsOf(flushes)).toEqual([
      [1, 2, 3],
      [10, 20, 30],
    ]);
    flushes[1]?.finish();
    await Promise.all(callers);
  });

  it('has two flushes under way unless told otherwise, and never more', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush });
    const answers: Promise<string>[] = [];
    for (const item of [1, 2, 3, 4]) {
      answers.push(batcher.add(item));
      await aTurn();
    }
    expect(itemsOf(flushes)).toEqual([[1], [2]]);
    flushes[1]?.finish();
    await aTurn();
    expect(itemsOf(flushes)).toEqual([[1], [2], [3, 4]]);
    flushes[0]?.finish();
    flushes[2]?.finish();
    await Promise.all(answers);
  });

  it('cuts batches by items and by bytes, and sends a larger item alone', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush, maxItems: 3, maxBytes: 10, sizeOf: (item) => item, concurrency: 9 });
    const answers = [1, 1, 1, 1, 5, 5, 5, 25, 2].map((item) => batcher.add(item));
    await aTurn();
    expect(itemsOf(flushes)).toEqual([[1, 1, 1], [1, 5], [5, 5], [25], [2]]);
    for (const sent of flushes) sent.finish();
    await Promise.all(answers);
  });

  it('sends at most 500 items at once when nothing else is said', async () => {
    const sizes: number[] = [];
    const batcher = new Batcher<number, number>({
      flush: async (items) => {
        sizes.push(items.length);
        return items;
      },
    });
    const items = Array.from({ length: 1_200 }, (_, i) => i);
    expect(await Promise.all(items.map((item) => batcher.add(item)))).toEqual(items);
    expect(sizes).toEqual([500, 500, 200]);
  });

  it('rejects only the culprit of a failed batch', async () => {
    const tried: (readonly number[])[] = [];
    const batcher = new Batcher<number, string>({
      flush: async (items) => {
        tried.push(items);
        if (items.includes(3)) throw new Error('three is bad');
        return items.map(answer);
      },
    });
    const outcomes = await Promise.allSettled([1, 2, 3, 4, 5].map((item) => batcher.add(item)));
    expect(outcomes.map((outcome) => outcome.status === 'fulfilled' && outcome.value)).toEqual([
      'done 1',
      'done 2',
      false,
      'done 4',
      'done 5',
    ]);
    expect(outcomes[2]).toMatchObject({ reason: new Error('three is bad') });
    expect(tried).toEqual([[1, 2, 3, 4, 5], [1, 2, 3], [1, 2], [3], [4, 5]]);
  });

  it.each([
    new BrokerError('BROKER_UNAVAILABLE', 'gone'),
    new BrokerError('BROKER_FAILED', 'deadlock', { transient: true }),
    new BrokerError('BROKER_CLOSED', 'closed'),
    new BrokerError('NOT_INITIALIZED', 'no table'),
  ])('does not look for a culprit when the error hits all alike: $code', async (error) => {
    let calls = 0;
    const batcher = new Batcher<number, string>({
      flush: () => {
        calls += 1;
        throw error;
      },
    });
    const outcomes = await Promise.allSettled([1, 2, 3].map((item) => batcher.add(item)));
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason === error)).toEqual([
      true,
      true,
      true,
    ]);
    expect(calls).toBe(1);
  });

  it('looks for the culprit of a refusal that is not transient', async () => {
    const batcher = new Batcher<number, string>({
      flush: async (items) => {
        if (items.includes(2)) throw new BrokerError('BROKER_FAILED', 'value too long');
        return items.map(answer);
      },
    });
    const outcomes = await Promise.allSettled([1, 2].map((item) => batcher.add(item)));
    expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected']);
  });

  it('leaves it to its owner which errors are worth splitting', async () => {
    let calls = 0;
    const batcher = new Batcher<number, string>({
      flush: async () => {
        calls += 1;
        throw new Error('no');
      },
      splits: () => false,
    });
    await Promise.allSettled([1, 2, 3].map((item) => batcher.add(item)));
    expect(calls).toBe(1);
  });

  it('rejects a batch that is answered with too few outcomes', async () => {
    const batcher = new Batcher<number, string>({ flush: async () => ['only one'] });
    const outcomes = await Promise.allSettled([batcher.add(1), batcher.add(2)]);
    expect(outcomes).toMatchObject([
      { status: 'rejected', reason: { code: 'BROKER_FAILED' } },
      { status: 'rejected', reason: { code: 'BROKER_FAILED' } },
    ]);
  });

  it('rejects an item whose size cannot be told, and goes on', async () => {
    const batcher = new Batcher<number, string>({
      flush: async (items) => items.map(answer),
      sizeOf: (item) => {
        if (item < 0) throw new RangeError('no size');
        return 1;
      },
    });
    await expect(batcher.add(-1)).rejects.toThrow('no size');
    expect(batcher.pending).toBe(0);
    expect(await batcher.add(1)).toBe('done 1');
  });

  it('is drained once everything has settled, failures included', async () => {
    const { flushes, flush } = gated();
    const batcher = new Batcher({ flush, concurrency: 1, splits: () => false });
    await batcher.drain();
    const answers = Promise.allSettled([batcher.add(1), batcher.add(2)]);
    let drained = false;
    const draining = batcher.drain().then(() => {
      drained = true;
    });
    await aTurn();
    const later = batcher.add(3);
    expect(batcher.pending).toBe(3);
    flushes[0]?.fail(new Error('no'));
    await aTurn();
    expect(batcher.pending).toBe(1);
    expect(drained).toBe(false);
    flushes[1]?.finish();
    await draining;
    expect(batcher.pending).toBe(0);
    expect(await later).toBe('done 3');
    expect((await answers).map((outcome) => outcome.status)).toEqual(['rejected', 'rejected']);
  });
});
