import { describe, expect, it, vi } from 'vitest';
import {
  BrokerError,
  ConfigurationError,
  errorMessage,
  ERRORS,
  InvalidArgumentError,
  isNonRetryable,
  isSignalboxError,
  NonRetryableError,
  SignalboxError,
  TaskError,
} from '../../src/errors.ts';

describe('the table of errors', () => {
  it('tells for every code what happened and what to do, in sentences', () => {
    for (const [code, { cause, mend }] of Object.entries(ERRORS)) {
      expect(code).toMatch(/^[A-Z][A-Z_]*[A-Z]$/);
      expect(cause).toMatch(/^[A-Z].*\.$/s);
      expect(mend).toMatch(/^[A-Z].*\.$/s);
    }
  });
});

describe('a coded error', () => {
  it('carries code, message, place, cause and advice', () => {
    const cause = new Error('ECONNREFUSED');
    const error = new BrokerError('BROKER_UNAVAILABLE', 'Queue "a" cannot be reached', {
      cause,
      place: { queue: 'a', operation: 'push' },
    });
    expect(error).toBeInstanceOf(SignalboxError);
    expect(error).toMatchObject({
      name: 'BrokerError',
      code: 'BROKER_UNAVAILABLE',
      message: 'Queue "a" cannot be reached',
      place: { queue: 'a', operation: 'push' },
      mend: ERRORS.BROKER_UNAVAILABLE.mend,
      likelyCause: ERRORS.BROKER_UNAVAILABLE.cause,
    });
    expect(error.cause).toBe(cause);
  });

  it('has no cause when none is given, and can give advice of its own', () => {
    const error = new ConfigurationError('CONFIG_INVALID', 'no', { mend: 'Write "weight".' });
    expect(Object.hasOwn(error, 'cause')).toBe(false);
    expect(error.mend).toBe('Write "weight".');
    expect(error.place).toEqual({});
  });

  it('is transient when the storage is away, unless it says otherwise', () => {
    expect(new BrokerError('BROKER_UNAVAILABLE', 'a').transient).toBe(true);
    expect(new BrokerError('BROKER_FAILED', 'a').transient).toBe(false);
    expect(new BrokerError('BROKER_FAILED', 'a', { transient: true }).transient).toBe(true);
    expect(new BrokerError('BROKER_UNAVAILABLE', 'a', { transient: false }).transient).toBe(false);
  });

  it('is known across two copies of the package, and nothing else is', async () => {
    vi.resetModules();
    const copy = await import('../../src/errors.ts');
    const foreign = new copy.TaskError('TASK_FAILED', 'a');
    expect(foreign).not.toBeInstanceOf(TaskError);
    expect(isSignalboxError(foreign)).toBe(true);
    expect(isNonRetryable(new copy.NonRetryableError('a'))).toBe(true);
    expect(isSignalboxError(new InvalidArgumentError('INVALID_ARGUMENT', 'a'))).toBe(true);
    expect([new Error('a'), null, undefined, 'a', { code: 'TASK_FAILED' }].some(isSignalboxError)).toBe(
      false,
    );
  });

  it('keeps its brand out of what is logged or written', () => {
    expect(Object.keys(new TaskError('TASK_FAILED', 'a')).toSorted()).toEqual([
      'code',
      'mend',
      'name',
      'place',
    ]);
  });
});

describe('an error that forbids another try', () => {
  class CardDeclined extends NonRetryableError {}

  it('is known with its subclasses, which keep their name and cause', () => {
    const cause = new Error('refused');
    const error = new CardDeclined('no money', { cause });
    expect(isNonRetryable(error)).toBe(true);
    expect(error.name).toBe('CardDeclined');
    expect(error.cause).toBe(cause);
    expect([new Error('a'), null, 'a'].some(isNonRetryable)).toBe(false);
  });
});

describe('the message of whatever was thrown', () => {
  it('is that of an error, or the value as text', () => {
    expect(errorMessage(new TypeError('no'))).toBe('no');
    expect(errorMessage('text')).toBe('text');
    expect(errorMessage(undefined)).toBe('undefined');
  });
});
