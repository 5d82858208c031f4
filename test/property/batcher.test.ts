import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Batcher } from '../../src/batcher.ts';
import { BrokerError } from '../../src/errors.ts';

interface Item {
  readonly id: number;
  readonly bytes: number;
  readonly bad: boolean;
}

const runs = fc.record({
  // Each inner list is added in one go, the lists one event-loop turn apart.
  bursts: fc.array(
    fc.array(fc.record({ bytes: fc.nat({ max: 60 }), bad: fc.boolean() }), { maxLength: 12 }),
    { maxLength: 8 },
  ),
  maxItems: fc.integer({ min: 1, max: 6 }),
  maxBytes: fc.integer({ min: 1, max: 100 }),
  concurrency: fc.integer({ min: 1, max: 3 }),
  // Turns that each flush takes, and whether an outage hits it.
  flushes: fc.infiniteStream(
    fc.record({ turns: fc.nat({ max: 2 }), outage: fc.constantFrom(false, false, false, true) }),
  ),
});

it('gives every item exactly its own outcome, in order and within its limits, whatever fails', async () => {
  await fc.assert(
    fc.asyncProperty(runs, async ({ bursts, maxItems, maxBytes, concurrency, flushes }) => {
      let underWay = 0;
      const batches: { underWay: number; ids: number[]; bytes: number }[] = [];
      const written = new Map<number, number>();
      const hit = new Set<number>();
      const batcher = new Batcher<Item, string>({
        maxItems,
        maxBytes,
        concurrency,
        sizeOf: (item) => item.bytes,
        flush: async (items) => {
          underWay += 1;
          const ids = items.map((item) => item.id);
          batches.push({ underWay, ids, bytes: items.reduce((sum, item) => sum + item.bytes, 0) });
          const { turns, outage } = flushes.next().value as { turns: number; outage: boolean };
          for (let turn = 0; turn < turns; turn += 1) await setImmediate();
          underWay -= 1;
          if (outage) {
            for (const id of ids) hit.add(id);
            throw new BrokerError('BROKER_UNAVAILABLE', 'gone');
          }
          if (items.some((item) => item.bad)) throw new Error('bad');
          for (const id of ids) written.set(id, (written.get(id) ?? 0) + 1);
          return items.map((item) => `outcome of ${item.id}`);
        },
      });

      const items: Item[] = [];
      const outcomes: Promise<PromiseSettledResult<string>[]>[] = [];
      for (const burst of bursts) {
        const added = burst.map((item, i) => ({ ...item, id: items.length + i }));
        items.push(...added);
        outcomes.push(Promise.allSettled(added.map((item) => batcher.add(item))));
        await setImmediate();
      }
      await batcher.drain();
      expect(batcher.pending).toBe(0);

      const settled = (await Promise.all(outcomes)).flat();
      for (const batch of batches) {
        expect(batch.underWay).toBeLessThanOrEqual(concurrency);
        expect(batch.ids.length).toBeLessThanOrEqual(maxItems);
        expect(batch.ids.length === 1 || batch.bytes <= maxBytes).toBe(true);
        expect(batch.ids).toEqual(batch.ids.toSorted((a, b) => a - b));
      }
      // The order in which items were first sent is the order in which they were added.
      expect([...new Set(batches.flatMap((batch) => batch.ids))]).toEqual(items.map((item) => item.id));
      for (const item of items) {
        const outcome = settled[item.id];
        if (outcome?.status === 'fulfilled') {
          expect(outcome.value).toBe(`outcome of ${item.id}`);
          expect(written.get(item.id)).toBe(1);
        } else {
          expect(item.bad || hit.has(item.id)).toBe(true);
          expect(written.has(item.id)).toBe(false);
        }
      }
    }),
    { numRuns: 200 },
  );
});
