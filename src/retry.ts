import { inspect } from 'node:util';
import type { Random } from './environment.ts';
import { InvalidArgumentError } from './errors.ts';

/** What happens after a run that failed, or whose worker died. */
export interface RetryPolicy {
  /** Runs that may end by themselves; at least 1, which means no retry. */
  readonly maxAttempts: number;
  readonly backoff: Backoff;
  /** 0 to 1: a delay is drawn evenly from delay × (1 − jitter) to delay × (1 + jitter). */
  readonly jitter: number;
  /** Runs that may be lost with their worker; the one that reaches it ends the task. At least 1. */
  readonly maxLapses: number;
  /** 'fail': the first lost run ends the task, for work that must not be begun twice. */
  readonly onCrash: 'retry' | 'fail';
}

/** All in milliseconds. `factor` is 2 when absent, `maxMs` one hour, or `baseMs` if that is longer. The last entry of a list repeats. */
export type Backoff =
  | {
      readonly kind: 'exponential';
      readonly baseMs: number;
      readonly factor?: number | undefined;
      readonly maxMs?: number | undefined;
    }
  | { readonly kind: 'linear'; readonly baseMs: number; readonly maxMs?: number | undefined }
  | { readonly kind: 'fixed'; readonly delayMs: number }
  | { readonly kind: 'list'; readonly delaysMs: readonly number[] };

/** What users write: any part of a policy; a backoff may also be a number (always that many ms) or a list of ms. */
export interface RetryOptions {
  readonly maxAttempts?: number | undefined;
  readonly backoff?: Backoff | number | readonly number[] | undefined;
  readonly jitter?: number | undefined;
  readonly maxLapses?: number | undefined;
  readonly onCrash?: 'retry' | 'fail' | undefined;
}

const HOUR_MS = 3_600_000;
/** Ten years: what is longer is a slip, and storage has no date for it. */
const LONGEST_MS = 315_360_000_000;

/** 15 s, 1 min, then 5 min: soon enough for a hiccup, patient enough for an outage. */
export const GROWING_DELAYS_MS: readonly number[] = [15_000, 60_000, 300_000];

export const DEFAULT_RETRY: RetryPolicy = {
  maxAttempts: 1,
  backoff: { kind: 'exponential', baseMs: 1_000, factor: 2, maxMs: HOUR_MS },
  jitter: 0.1,
  maxLapses: 3,
  onCrash: 'retry',
};

/**
 * The defaults, overlaid by each layer in turn, field by field; a field that is undefined leaves what was there.
 * Throws `INVALID_ARGUMENT` with the name of a field that makes no sense.
 */
export function resolveRetry(...layers: readonly (RetryOptions | undefined)[]): RetryPolicy {
  let policy = DEFAULT_RETRY;
  for (const layer of layers) {
    if (layer === undefined) continue;
    if (typeof layer !== 'object' || layer === null || Array.isArray(layer))
      refuse('retry', 'options', layer);
    policy = {
      maxAttempts: given(layer.maxAttempts, policy.maxAttempts),
      backoff: layer.backoff === undefined ? policy.backoff : toBackoff(layer.backoff),
      jitter: given(layer.jitter, policy.jitter),
      maxLapses: given(layer.maxLapses, policy.maxLapses),
      onCrash: given(layer.onCrash, policy.onCrash),
    };
    checkPolicy(policy);
  }
  return policy;
}

/** Null, as JSON may have it, is no way to leave a field out: it is refused like any other wrong value. */
function given<T>(value: T | undefined, otherwise: T): T {
  return value === undefined ? otherwise : value;
}

/**
 * The delay in ms before the next run, after `attempt` failed runs (1 is the first): a finite integer from 0 up to the cap.
 *
 *     exponential  baseMs × factor^(attempt − 1), at most maxMs
 *     linear       baseMs × attempt, at most maxMs
 *     fixed        delayMs
 *     list         delaysMs[attempt − 1], or the last one
 *
 *     delay + delay × jitter × (2 × random − 1), at most maxMs, rounded
 *
 * This is truncated binary exponential backoff (IEEE 802.3, section 4.2.3.2.5) in real time, spread around its middle as in
 * the gRPC connection backoff protocol. Why clients must be spread at all: Marc Brooker, "Exponential Backoff And Jitter",
 * AWS Architecture Blog, 2015. His "full jitter" spreads wider, but lets a retry come at once, which a task does not want.
 */
export function backoffMs(policy: RetryPolicy, attempt: number, random: Random): number {
  const { backoff, jitter } = policy;
  const cap = capMs(backoff);
  const delay = Math.min(plainDelayMs(backoff, Math.max(1, Math.floor(attempt))), cap);
  const spread = delay * jitter * (2 * random() - 1);
  return Math.round(Math.min(Math.max(0, delay + spread), cap));
}

function plainDelayMs(backoff: Backoff, attempt: number): number {
  switch (backoff.kind) {
    case 'exponential':
      // Zero times an overflowed power would be NaN.
      return backoff.baseMs === 0 ? 0 : backoff.baseMs * (backoff.factor ?? 2) ** (attempt - 1);
    case 'linear':
      return backoff.baseMs * attempt;
    case 'fixed':
      return backoff.delayMs;
    case 'list':
      return backoff.delaysMs[Math.min(attempt, backoff.delaysMs.length) - 1] ?? 0;
  }
}

function capMs(backoff: Backoff): number {
  if (backoff.kind === 'exponential' || backoff.kind === 'linear') {
    return backoff.maxMs ?? Math.max(HOUR_MS, backoff.baseMs);
  }
  return LONGEST_MS;
}

function toBackoff(written: Backoff | number | readonly number[]): Backoff {
  if (typeof written === 'number') return { kind: 'fixed', delayMs: written };
  return isList(written) ? { kind: 'list', delaysMs: written } : written;
}

function isList(written: object): written is readonly number[] {
  return Array.isArray(written);
}

function checkPolicy(policy: RetryPolicy): void {
  checkCount('retry.maxAttempts', policy.maxAttempts);
  checkCount('retry.maxLapses', policy.maxLapses);
  if (!(typeof policy.jitter === 'number' && policy.jitter >= 0 && policy.jitter <= 1)) {
    refuse('retry.jitter', 'a number from 0 to 1', policy.jitter);
  }
  if (policy.onCrash !== 'retry' && policy.onCrash !== 'fail') {
    refuse('retry.onCrash', "'retry' or 'fail'", policy.onCrash);
  }
  checkBackoff(policy.backoff);
}

function checkBackoff(backoff: Backoff): void {
  switch (backoff?.kind) {
    case 'exponential':
      checkMs('retry.backoff.baseMs', backoff.baseMs);
      if (backoff.factor !== undefined && !(Number.isFinite(backoff.factor) && backoff.factor >= 1)) {
        refuse('retry.backoff.factor', 'a number of at least 1', backoff.factor);
      }
      if (backoff.maxMs !== undefined) checkMs('retry.backoff.maxMs', backoff.maxMs);
      return;
    case 'linear':
      checkMs('retry.backoff.baseMs', backoff.baseMs);
      if (backoff.maxMs !== undefined) checkMs('retry.backoff.maxMs', backoff.maxMs);
      return;
    case 'fixed':
      checkMs('retry.backoff.delayMs', backoff.delayMs);
      return;
    case 'list':
      if (!isList(backoff.delaysMs) || backoff.delaysMs.length === 0) {
        refuse('retry.backoff.delaysMs', 'a list of at least one delay', backoff.delaysMs);
      }
      backoff.delaysMs.forEach((delayMs, i) => checkMs(`retry.backoff.delaysMs[${i}]`, delayMs));
      return;
    default:
      refuse('retry.backoff.kind', "'exponential', 'linear', 'fixed' or 'list'", backoff);
  }
}

function checkCount(field: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) refuse(field, 'a whole number of at least 1', value);
}

function checkMs(field: string, value: number): void {
  if (!Number.isFinite(value) || value < 0 || value > LONGEST_MS) {
    refuse(field, 'a number of milliseconds from 0 to ten years', value);
  }
}

function refuse(field: string, wanted: string, value: unknown): never {
  throw new InvalidArgumentError('INVALID_ARGUMENT', `${field} must be ${wanted}, not ${inspect(value)}`);
}
