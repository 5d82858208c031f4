import fc from 'fast-check';
import { expect, it } from 'vitest';
import { backoffMs, resolveRetry } from '../../src/retry.ts';
import type { Backoff } from '../../src/retry.ts';

const ms = fc.double({ min: 0, max: 315_360_000_000, noNaN: true });

const capped: fc.Arbitrary<Backoff & { maxMs: number }> = fc.oneof(
  fc.record({
    kind: fc.constant('exponential' as const),
    baseMs: ms,
    factor: fc.double({ min: 1, noNaN: true, noDefaultInfinity: true }),
    maxMs: ms,
  }),
  fc.record({ kind: fc.constant('linear' as const), baseMs: ms, maxMs: ms }),
);

const backoffs: fc.Arbitrary<Backoff> = fc.oneof(
  capped,
  fc.record({ kind: fc.constant('fixed' as const), delayMs: ms }),
  fc.record({ kind: fc.constant('list' as const), delaysMs: fc.array(ms, { minLength: 1 }) }),
);

const attempts = fc.oneof(fc.integer({ min: 1, max: 50 }), fc.maxSafeNat());
const jitters = fc.double({ min: 0, max: 1, noNaN: true });
const chances = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

it('is a finite whole number of milliseconds, never negative', () => {
  fc.assert(
    fc.property(backoffs, attempts, jitters, chances, (backoff, attempt, jitter, chance) => {
      const delay = backoffMs(resolveRetry({ backoff, jitter }), attempt, () => chance);
      expect(Number.isSafeInteger(delay)).toBe(true);
      expect(delay).toBeGreaterThanOrEqual(0);
    }),
  );
});

it('never exceeds its limit, jitter included', () => {
  fc.assert(
    fc.property(capped, attempts, jitters, chances, (backoff, attempt, jitter, chance) => {
      const delay = backoffMs(resolveRetry({ backoff, jitter }), attempt, () => chance);
      expect(delay).toBeLessThanOrEqual(Math.round(backoff.maxMs));
    }),
  );
});

it('never shrinks from one attempt to the next when there is no chance in it', () => {
  fc.assert(
    fc.property(capped, fc.integer({ min: 1, max: 100_000 }), (backoff, attempt) => {
      const policy = resolveRetry({ backoff, jitter: 0 });
      const middle = (): number => 0.5;
      expect(backoffMs(policy, attempt + 1, middle)).toBeGreaterThanOrEqual(
        backoffMs(policy, attempt, middle),
      );
    }),
  );
});

it('stays within its share of jitter around the middle', () => {
  fc.assert(
    fc.property(backoffs, attempts, jitters, chances, (backoff, attempt, jitter, chance) => {
      const plain = backoffMs(resolveRetry({ backoff, jitter: 0 }), attempt, () => 0.5);
      const delay = backoffMs(resolveRetry({ backoff, jitter }), attempt, () => chance);
      expect(Math.abs(delay - plain)).toBeLessThanOrEqual(plain * jitter + 2);
    }),
  );
});
