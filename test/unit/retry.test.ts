import { describe, expect, it } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import { backoffMs, DEFAULT_RETRY, GROWING_DELAYS_MS, resolveRetry } from '../../src/retry.ts';
import type { RetryOptions } from '../../src/retry.ts';

const middle = (): number => 0.5;

function delays(options: RetryOptions, attempts: number): number[] {
  const policy = resolveRetry(options);
  return Array.from({ length: attempts }, (_, i) => backoffMs(policy, i + 1, middle));
}

describe('resolving a retry policy', () => {
  it('gives one attempt when nobody asks for more', () => {
    expect(resolveRetry()).toEqual(DEFAULT_RETRY);
    expect(resolveRetry(undefined, {}, { maxAttempts: undefined })).toEqual(DEFAULT_RETRY);
    expect(DEFAULT_RETRY).toMatchObject({ maxAttempts: 1, maxLapses: 3, jitter: 0.1, onCrash: 'retry' });
  });

  it('lets later layers win, field by field', () => {
    expect(resolveRetry({ maxAttempts: 5, jitter: 0 }, { maxAttempts: 7, onCrash: 'fail' })).toMatchObject({
      maxAttempts: 7,
      jitter: 0,
      maxLapses: 3,
      onCrash: 'fail',
    });
  });

  it('takes a number as a fixed delay and a list as a list', () => {
    expect(resolveRetry({ backoff: 250 }).backoff).toEqual({ kind: 'fixed', delayMs: 250 });
    expect(resolveRetry({ backoff: [1, 2] }).backoff).toEqual({ kind: 'list', delaysMs: [1, 2] });
  });

  it.each([
    ['retry.maxAttempts', { maxAttempts: 0 }],
    ['retry.maxAttempts', { maxAttempts: 1.5 }],
    ['retry.maxAttempts', { maxAttempts: Infinity }],
    ['retry.maxAttempts', { maxAttempts: null }],
    ['retry.maxLapses', { maxLapses: 0 }],
    ['retry.jitter', { jitter: 1.1 }],
    ['retry.jitter', { jitter: NaN }],
    ['retry.onCrash', { onCrash: 'maybe' }],
    ['retry.backoff.delayMs', { backoff: -1 }],
    ['retry.backoff.delaysMs', { backoff: [] }],
    ['retry.backoff.delaysMs[1]', { backoff: [1, NaN] }],
    ['retry.backoff.delaysMs', { backoff: { kind: 'list' } }],
    ['retry.backoff.baseMs', { backoff: { kind: 'exponential' } }],
    ['retry.backoff.factor', { backoff: { kind: 'exponential', baseMs: 1, factor: 0.5 } }],
    ['retry.backoff.maxMs', { backoff: { kind: 'linear', baseMs: 1, maxMs: Infinity } }],
    ['retry.backoff.kind', { backoff: { kind: 'quadratic' } }],
    ['retry.backoff.kind', { backoff: null }],
    ['retry', null],
    ['retry', 3],
  ])('names the field %s that makes no sense in %o', (field, options) => {
    let thrown: unknown;
    try {
      resolveRetry(options as RetryOptions);
    } catch (error) {
      thrown = error;
    }
    expect(isSignalboxError(thrown) && thrown.code).toBe('INVALID_ARGUMENT');
    expect((thrown as Error).message.startsWith(`${field} must be `)).toBe(true);
  });
});

describe('a backoff', () => {
  it('doubles by default, up to an hour', () => {
    expect(delays({}, 4)).toEqual([1_000, 2_000, 4_000, 8_000]);
    expect(backoffMs(DEFAULT_RETRY, 13, middle)).toBe(3_600_000);
    expect(backoffMs(DEFAULT_RETRY, 1_000_000, middle)).toBe(3_600_000);
  });

  it('grows by its factor up to its own limit', () => {
    expect(delays({ backoff: { kind: 'exponential', baseMs: 10, factor: 3, maxMs: 100 } }, 4)).toEqual([
      10, 30, 90, 100,
    ]);
  });

  it('is not cut to an hour when its base is longer', () => {
    expect(delays({ backoff: { kind: 'exponential', baseMs: 7_200_000 } }, 2)).toEqual([
      7_200_000, 7_200_000,
    ]);
  });

  it('grows by the same step when linear', () => {
    expect(delays({ backoff: { kind: 'linear', baseMs: 100, maxMs: 250 } }, 3)).toEqual([100, 200, 250]);
  });

  it('stays the same when fixed', () => {
    expect(delays({ backoff: 70 }, 3)).toEqual([70, 70, 70]);
  });

  it('repeats the last entry of a list', () => {
    expect(delays({ backoff: GROWING_DELAYS_MS }, 5)).toEqual([15_000, 60_000, 300_000, 300_000, 300_000]);
  });

  it('is spread by the share of jitter to both sides', () => {
    const policy = resolveRetry({ backoff: 1_000, jitter: 0.2 });
    expect(backoffMs(policy, 1, () => 0)).toBe(800);
    expect(backoffMs(policy, 1, middle)).toBe(1_000);
    expect(backoffMs(policy, 1, () => 1 - Number.EPSILON)).toBe(1_200);
  });

  it('counts an attempt below one as the first', () => {
    expect(backoffMs(DEFAULT_RETRY, 0, middle)).toBe(1_000);
  });
});
