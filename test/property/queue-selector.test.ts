import fc from 'fast-check';
import { expect, it } from 'vitest';
import { StrictPrioritySelector, WeightedSelector } from '../../src/queue-selector.ts';
import type { WeightedQueue } from '../../src/queue-selector.ts';

const queues: fc.Arbitrary<WeightedQueue[]> = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1 }),
    weight: fc.oneof(fc.nat({ max: 100 }), fc.double({ min: 0, max: 1e6, noNaN: true })),
  }),
  { selector: (queue) => queue.name, maxLength: 8 },
);
const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

it.each([new WeightedSelector(), new StrictPrioritySelector()])(
  'deals exactly the free places, to each queue at most one share (%o)',
  (selector) => {
    fc.assert(
      fc.property(queues, fc.nat({ max: 200 }), fc.infiniteStream(chance), (all, places, chances) => {
        const shares = selector.deal(all, places, () => chances.next().value as number);
        const names = all.map((queue) => queue.name);
        const dealt = shares.map((share) => share.queue);
        expect(new Set(dealt).size).toBe(dealt.length);
        expect(dealt.every((name) => names.includes(name))).toBe(true);
        expect(shares.every((share) => share.places >= 1)).toBe(true);
        expect(shares.reduce((sum, share) => sum + share.places, 0)).toBe(all.length === 0 ? 0 : places);
      }),
    );
  },
);

it('never gives a queue of weight 0 a place while another has a weight', () => {
  fc.assert(
    fc.property(queues, fc.nat({ max: 50 }), fc.infiniteStream(chance), (all, places, chances) => {
      fc.pre(all.some((queue) => queue.weight > 0));
      const shares = new WeightedSelector().deal(all, places, () => chances.next().value as number);
      const unweighted = all.filter((queue) => queue.weight === 0).map((queue) => queue.name);
      expect(shares.some((share) => unweighted.includes(share.queue))).toBe(false);
    }),
  );
});
