import type { Random } from './environment.ts';

export interface WeightedQueue {
  readonly name: string;
  /** Relative to the other queues: 1 and 2 mean a third and two thirds. */
  readonly weight: number;
}

export interface QueueShare {
  readonly queue: string;
  /** At least 1. */
  readonly places: number;
}

/** Decides which queue gets a worker's free places: a pure function of its arguments. */
export interface QueueSelector {
  /** Whether tasks may be taken ahead of free places. Strict priority says no: a prefetched light task would run before a heavier one that arrives meanwhile. */
  readonly prefetches: boolean;
  /** Deals `places` free places to queues; the caller draws each share, in this order, and deals what they could not fill again among the queues that may have more. */
  deal(queues: readonly WeightedQueue[], places: number, random: Random): readonly QueueShare[];
}

/**
 * Each place goes to a queue picked by weight, so that over time every full queue gets its share of the tasks. The shares come
 * in the order in which their queues were first picked. A queue of weight 0 gets places only where no queue has a weight; those then share evenly.
 */
export class WeightedSelector implements QueueSelector {
  readonly prefetches: boolean = true;

  deal(queues: readonly WeightedQueue[], places: number, random: Random): readonly QueueShare[] {
    const weighted = queues.filter((queue) => queue.weight > 0);
    const candidates = weighted.length > 0 ? weighted : queues.map(({ name }) => ({ name, weight: 1 }));
    const total = candidates.reduce((sum, queue) => sum + queue.weight, 0);
    const dealt = new Map<string, number>();
    for (let place = 0; place < places; place += 1) {
      const queue = pick(candidates, total, random);
      if (queue !== undefined) dealt.set(queue.name, (dealt.get(queue.name) ?? 0) + 1);
    }
    return Array.from(dealt, ([queue, count]) => ({ queue, places: count }));
  }
}

function pick(queues: readonly WeightedQueue[], total: number, random: Random): WeightedQueue | undefined {
  let left = random() * total;
  for (const queue of queues) {
    left -= queue.weight;
    if (left < 0) return queue;
  }
  // Sums of fractions may end a hair above zero.
  return queues.at(-1);
}

/** All places go to the heaviest queue, the first of equals; a lighter one gets what the heavier ones could not fill. */
export class StrictPrioritySelector implements QueueSelector {
  readonly prefetches: boolean = false;

  deal(queues: readonly WeightedQueue[], places: number, _random: Random): readonly QueueShare[] {
    const [first, ...others] = queues;
    if (first === undefined || places < 1) return [];
    const heaviest = others.reduce((best, queue) => (queue.weight > best.weight ? queue : best), first);
    return [{ queue: heaviest.name, places }];
  }
}

/** Whether the object can deal. A `prefetches` left out counts as no. */
export function isQueueSelector(value: unknown): value is QueueSelector {
  return typeof value === 'object' && value !== null && 'deal' in value && typeof value.deal === 'function';
}

export { WeightedSelector as WeightStrategy, StrictPrioritySelector as StrictPriorityStrategy };
