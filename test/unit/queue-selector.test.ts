import { describe, expect, it } from 'vitest';
import type { Random } from '../../src/environment.ts';
import {
  isQueueSelector,
  StrictPrioritySelector,
  StrictPriorityStrategy,
  WeightedSelector,
  WeightStrategy,
} from '../../src/queue-selector.ts';
import type { QueueSelector, WeightedQueue } from '../../src/queue-selector.ts';

/** A small generator with a fixed start (mulberry32), so that a share that is off is off every time. */
function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function queues(weights: Readonly<Record<string, number>>): WeightedQueue[] {
  return Object.entries(weights).map(([name, weight]) => ({ name, weight }));
}

/** Draws from full queues, `places` at a time, and gives the tasks that each queue got. */
function drawn(
  selector: QueueSelector,
  weights: Readonly<Record<string, number>>,
  draws: number,
  places: number,
): Record<string, number> {
  const random = seeded(7);
  const counts = Object.fromEntries(Object.keys(weights).map((name) => [name, 0]));
  for (let draw = 0; draw < draws; draw += 1) {
    for (const share of selector.deal(queues(weights), places, random)) {
      counts[share.queue] = (counts[share.queue] ?? 0) + share.places;
    }
  }
  return counts;
}

describe('the weighted selector', () => {
  const selector = new WeightedSelector();

  it.each([
    { weights: { priority: 90, standard: 30, background: 10 }, places: 1 },
    { weights: { priority: 90, standard: 30, background: 10 }, places: 10 },
    { weights: { a: 6, b: 3, c: 1 }, places: 1 },
    { weights: { a: 6, b: 3, c: 1 }, places: 10 },
  ])('shares tasks by weight: %o', ({ weights, places }) => {
    const counts = drawn(selector, weights, 10_000, places);
    const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    for (const { name, weight } of queues(weights)) {
      expect(Math.abs((counts[name] ?? 0) / (10_000 * places) - weight / total)).toBeLessThan(0.02);
    }
  });

  it('gives two thirds of 30,000 tasks to the queue of weight 2 beside one of weight 1', () => {
    const counts = drawn(selector, { A: 1, B: 2 }, 30_000, 1);
    expect(Math.abs((counts['B'] ?? 0) / 30_000 - 2 / 3)).toBeLessThan(0.01);
  });

  it('reaches a light queue in a few rounds when the heavy ones turn out to be empty', () => {
    const random = seeded(3);
    let open = queues({ priority: 90, standard: 30, background: 10 });
    let left = 100;
    let rounds = 0;
    while (left > 0) {
      rounds += 1;
      for (const share of selector.deal(open, left, random)) {
        if (share.queue === 'background') left -= share.places;
        else open = open.filter((queue) => queue.name !== share.queue);
      }
    }
    expect(rounds).toBeLessThanOrEqual(3);
  });

  it('begins with the queue that was picked first', () => {
    const chances = [0.95, 0.1, 0.95];
    const shares = selector.deal(queues({ a: 6, b: 3, c: 1 }), 3, () => chances.shift() ?? 0);
    expect(shares).toEqual([
      { queue: 'c', places: 2 },
      { queue: 'a', places: 1 },
    ]);
  });

  it('gives a queue of weight 0 nothing while another has a weight', () => {
    expect(drawn(selector, { a: 0, b: 1, c: 0 }, 1_000, 3)).toEqual({ a: 0, b: 3_000, c: 0 });
  });

  it('shares evenly when no queue has a weight', () => {
    const counts = drawn(selector, { a: 0, b: 0, c: 0 }, 10_000, 1);
    for (const count of Object.values(counts)) expect(Math.abs(count / 10_000 - 1 / 3)).toBeLessThan(0.02);
  });

  it('deals nothing when there is no queue or no place', () => {
    expect(selector.deal([], 5, seeded(1))).toEqual([]);
    expect(selector.deal(queues({ a: 1 }), 0, seeded(1))).toEqual([]);
  });
});

describe('the strict priority selector', () => {
  const selector = new StrictPrioritySelector();

  it('gives every place to the heaviest queue, wherever it stands', () => {
    expect(selector.deal(queues({ a: 5, b: 10, c: 1 }), 7, seeded(1))).toEqual([{ queue: 'b', places: 7 }]);
  });

  it('takes the first of two queues of one weight', () => {
    expect(selector.deal(queues({ a: 1, b: 5, c: 5 }), 2, seeded(1))).toEqual([{ queue: 'b', places: 2 }]);
  });

  it('deals nothing when there is no queue or no place', () => {
    expect(selector.deal([], 5, seeded(1))).toEqual([]);
    expect(selector.deal(queues({ a: 1 }), 0, seeded(1))).toEqual([]);
  });

  it('takes no task ahead of a free place, while the weighted one may', () => {
    expect(selector.prefetches).toBe(false);
    expect(new WeightedSelector().prefetches).toBe(true);
  });
});

describe('isQueueSelector', () => {
  it('asks for a method deal', () => {
    expect(isQueueSelector(new WeightedSelector())).toBe(true);
    expect(isQueueSelector({ prefetches: false, deal: () => [] })).toBe(true);
    expect([null, undefined, {}, { deal: 1 }, { pickNextTask: () => null }].some(isQueueSelector)).toBe(
      false,
    );
  });

  it('is also found by the names with Strategy', () => {
    expect(new WeightStrategy()).toBeInstanceOf(WeightedSelector);
    expect(new StrictPriorityStrategy()).toBeInstanceOf(StrictPrioritySelector);
  });
});
