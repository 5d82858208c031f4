import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { newId, silentLogger, systemClock } from '../../src/environment.ts';

function timers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
}

describe('a new id', () => {
  it('is unique and sorts in the order it was made, 100,000 times', () => {
    const ids = Array.from({ length: 100_000 }, () => newId());
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(ids.toSorted());
  });

  it('is a UUID of version 7 with the time in front', () => {
    const now = Date.now() + 60_000;
    const id = newId(now);
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(Number.parseInt(id.replace('-', '').slice(0, 12), 16)).toBe(now);
  });

  it('still sorts after those before it when the clock has been set back', () => {
    const before = newId();
    const after = newId(Date.now() - 3_600_000);
    expect(after > before).toBe(true);
  });
});

describe('the clock of the system', () => {
  it('sleeps at least as long as asked', async () => {
    const start = systemClock.monotonic();
    await systemClock.sleep(20);
    // Timers count whole milliseconds from the start of their turn.
    expect(systemClock.monotonic() - start).toBeGreaterThanOrEqual(18);
  });

  it('ends a sleep at once when aborted, and leaves no timer and no listener', async () => {
    const stop = new AbortController();
    const before = timers();
    const sleeping = systemClock.sleep(3_600_000, stop.signal);
    expect(timers()).toBe(before + 1);
    stop.abort();
    expect(timers()).toBe(before);
    await sleeping;
    expect(getEventListeners(stop.signal, 'abort')).toEqual([]);
  });

  it('leaves no listener after a sleep that ended by itself', async () => {
    const { signal } = new AbortController();
    await systemClock.sleep(1, signal);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('does not begin a sleep that is aborted already', async () => {
    const before = timers();
    await systemClock.sleep(3_600_000, AbortSignal.abort());
    expect(timers()).toBe(before);
  });

  it('does not take a very long sleep for a very short one', async () => {
    const stop = new AbortController();
    let over = false;
    const sleeping = systemClock.sleep(Number.MAX_SAFE_INTEGER, stop.signal).then(() => {
      over = true;
    });
    await systemClock.sleep(20);
    expect(over).toBe(false);
    stop.abort();
    await sleeping;
  });
});

describe('the silent logger', () => {
  it('takes every line, and so do its children', () => {
    const child = silentLogger.child({ queue: 'q' });
    expect(() => {
      child.trace({}, 'a');
      child.debug({});
      child.info({});
      child.warn({});
      child.error({ err: new Error('no') }, 'b');
    }).not.toThrow();
  });
});
