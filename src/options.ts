import { nearestName } from './config/nearest-name.ts';
import { InvalidArgumentError } from './errors.ts';
import { resolveRetry } from './retry.ts';
import type { RetryOptions } from './retry.ts';

/** How tasks are run: what a task, a queue, a call and the defaults may all say. */
export interface RunOptions {
  readonly retry?: RetryOptions;
  /** Milliseconds for one run; 0 or absent: no timeout. */
  readonly timeoutMs?: number;
}

export const RUN_OPTIONS: readonly string[] = ['retry', 'timeoutMs'];
const RETRY_OPTIONS: readonly string[] = ['maxAttempts', 'backoff', 'jitter', 'maxLapses', 'onCrash'];

/**
 * Refuses options that nobody reads: a misspelt one would be silently without effect.
 * @throws InvalidArgumentError `INVALID_ARGUMENT` naming the option and the nearest that exists.
 */
export function checkOptions(options: unknown, known: readonly string[], what: string): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    const found = options === null ? 'null' : typeof options;
    throw new InvalidArgumentError('INVALID_ARGUMENT', `The options of ${what} are an object; got ${found}.`);
  }
  const odd = Object.keys(options).find((name) => !known.includes(name));
  if (odd === undefined) return;
  const nearest = nearestName(odd, known);
  const hint = nearest === undefined ? `There are ${known.join(', ')}.` : `Did you mean \`${nearest}\`?`;
  throw new InvalidArgumentError('INVALID_ARGUMENT', `\`${odd}\` is no option of ${what}. ${hint}`);
}

/** @throws InvalidArgumentError `INVALID_ARGUMENT` naming the option that makes no sense. */
export function checkRunOptions({ retry, timeoutMs }: RunOptions, what: string): void {
  if (retry !== undefined) {
    checkOptions(retry, RETRY_OPTIONS, `\`retry\` of ${what}`);
    resolveRetry(retry);
  }
  checkDuration(`\`timeoutMs\` of ${what}`, timeoutMs);
}

/** The duration in whole milliseconds. */
export function checkDuration(name: string, ms: number | undefined): number | undefined {
  if (ms === undefined) return undefined;
  if (typeof ms !== 'number' || !Number.isFinite(ms) || ms < 0) {
    const found = typeof ms === 'number' ? String(ms) : JSON.stringify(ms);
    throw new InvalidArgumentError(
      'INVALID_ARGUMENT',
      `${name} is a number of milliseconds of at least 0; got ${found}.`,
    );
  }
  return Math.round(ms);
}

const MAX_TEXT_LENGTH = 255;

/**
 * A text that every storage keeps as it is: no NUL, no half of a surrogate pair.
 * @throws InvalidArgumentError `INVALID_ARGUMENT`, or `code` when it is too long.
 */
export function checkText(
  name: string,
  text: string,
  code: 'INVALID_ARGUMENT' | 'LABEL_TOO_LONG' = 'INVALID_ARGUMENT',
): string {
  if (typeof text !== 'string') {
    throw new InvalidArgumentError('INVALID_ARGUMENT', `${name} is a text; got ${typeof text}.`);
  }
  if (text.length > MAX_TEXT_LENGTH) {
    throw new InvalidArgumentError(
      code,
      `${name} has ${text.length} characters; ${MAX_TEXT_LENGTH} are allowed.`,
    );
  }
  if (text.includes('\0') || /\p{Cs}/u.test(text)) {
    throw new InvalidArgumentError(
      'INVALID_ARGUMENT',
      `${name} holds a NUL or half a character, which not every storage keeps.`,
    );
  }
  return text;
}
