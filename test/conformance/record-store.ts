import { describe, expect } from 'vitest';
import type { RecordStore } from '../../src/record-store.ts';
import { casesOn, LONG_MS, SHORT_MS, SHORT_PASSED_MS } from './scene.ts';
import type { Case, Open, Scene } from './scene.ts';

export interface RecordScene extends Scene {
  readonly records: RecordStore;
}

/** What every record store keeps to. `open` gives an empty storage each time. */
export function recordStoreConformance(name: string, open: Open<RecordScene>): void {
  describe(`${name}: record store`, () => {
    const test = casesOn(open);
    putCases(test);
    versionCases(test);
    lifetimeCases(test);
    listCases(test);
  });
}

function putCases(test: Case<RecordScene>): void {
  test('gives back what was put, and null for what never was', async ({ records }) => {
    const value = JSON.stringify({ text: "Grüße 日本語 👍 'quoted' \\ \n" });
    expect(await records.put('marks', 'a', value)).toBe(1);
    expect(await records.get('marks', 'a')).toEqual({ key: 'a', value, version: 1 });
    expect(await records.get('marks', 'b')).toBeNull();
  });

  test('keeps spaces apart', async ({ records }) => {
    await records.put('marks', 'a', 'mark');
    await records.put('pauses', 'a', 'pause');
    expect(await records.remove('marks', ['a'])).toBe(1);
    expect(await records.get('marks', 'a')).toBeNull();
    expect((await records.get('pauses', 'a'))?.value).toBe('pause');
  });

  test('tells keys apart that differ in case or in spaces at their end', async ({ records }) => {
    for (const key of ['key', 'Key', 'key ']) await records.put('marks', key, `value of "${key}"`);
    for (const key of ['key', 'Key', 'key ']) {
      expect(await records.get('marks', key)).toEqual({ key, value: `value of "${key}"`, version: 1 });
    }
  });

  test('removes what is there and says how many that were', async ({ records }) => {
    await records.put('marks', 'a', '1');
    await records.put('marks', 'b', '2');
    expect(await records.remove('marks', ['a', 'b', 'c'])).toBe(2);
    expect(await records.remove('marks', ['a'])).toBe(0);
    expect(await records.remove('marks', [])).toBe(0);
  });
}

function versionCases(test: Case<RecordScene>): void {
  test('counts versions', async ({ records }) => {
    expect(await records.put('marks', 'a', 'first')).toBe(1);
    expect(await records.put('marks', 'a', 'second')).toBe(2);
    expect(await records.put('marks', 'a', 'third')).toBe(3);
    expect(await records.get('marks', 'a')).toEqual({ key: 'a', value: 'third', version: 3 });
  });

  test('writes only over the version asked for', async ({ records }) => {
    await records.put('marks', 'a', 'first');
    expect(await records.put('marks', 'a', 'wrong', { ifVersion: 7 })).toBeNull();
    expect(await records.put('marks', 'a', 'second', { ifVersion: 1 })).toBe(2);
    expect(await records.put('marks', 'a', 'wrong', { ifVersion: 1 })).toBeNull();
    expect((await records.get('marks', 'a'))?.value).toBe('second');
    expect(await records.put('marks', 'b', 'wrong', { ifVersion: 1 })).toBeNull();
    expect(await records.get('marks', 'b')).toBeNull();
  });

  test('lets one of many create a record', async ({ records }) => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => records.put('marks', 'a', `${index}`, { ifVersion: 0 })),
    );
    expect(answers.filter((version) => version === 1)).toHaveLength(1);
    expect(answers.filter((version) => version === null)).toHaveLength(7);
    expect((await records.get('marks', 'a'))?.value).toBe(`${answers.indexOf(1)}`);
  });

  test('loses no put of many at once', async ({ records }) => {
    await records.put('marks', 'a', 'first');
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => records.put('marks', 'a', `${index}`)),
    );
    expect(answers.toSorted((a, b) => Number(a) - Number(b))).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('begins anew with version 1 after a removal', async ({ records }) => {
    await records.put('marks', 'a', 'first');
    await records.put('marks', 'a', 'second');
    await records.remove('marks', ['a']);
    expect(await records.put('marks', 'a', 'third', { ifVersion: 0 })).toBe(1);
  });
}

function lifetimeCases(test: Case<RecordScene>): void {
  test('forgets a record when its time is over', async (scene) => {
    const { records } = scene;
    await records.put('marks', 'short', '1', { ttlMs: SHORT_MS });
    await records.put('marks', 'long', '2', { ttlMs: LONG_MS });
    await records.put('marks', 'kept', '3');
    await scene.pass(SHORT_PASSED_MS);
    expect(await records.get('marks', 'short')).toBeNull();
    const listed = await records.list('marks', { limit: 10 });
    expect(listed.map((record) => record.key)).toEqual(['kept', 'long']);
    expect(await records.remove('marks', ['short'])).toBe(0);
  });

  test('creates a record anew after its time is over', async (scene) => {
    await scene.records.put('marks', 'a', '1', { ttlMs: SHORT_MS });
    await scene.pass(SHORT_PASSED_MS);
    expect(await scene.records.put('marks', 'a', '2', { ifVersion: 0 })).toBe(1);
    expect(await scene.records.get('marks', 'a')).toEqual({ key: 'a', value: '2', version: 1 });
  });

  test('keeps for ever what is put again without a time', async (scene) => {
    await scene.records.put('marks', 'a', '1', { ttlMs: SHORT_MS });
    await scene.records.put('marks', 'a', '2');
    await scene.pass(SHORT_PASSED_MS);
    expect((await scene.records.get('marks', 'a'))?.value).toBe('2');
  });
}

function listCases(test: Case<RecordScene>): void {
  test('lists a space by key, page by page', async ({ records }) => {
    for (const key of ['d', 'a', 'e', 'c', 'b', 'B']) await records.put('marks', key, `value of ${key}`);
    await records.put('pauses', 'x', 'other');
    const first = await records.list('marks', { limit: 3 });
    expect(first).toEqual(['B', 'a', 'b'].map((key) => ({ key, value: `value of ${key}`, version: 1 })));
    const second = await records.list('marks', { limit: 3, after: 'b' });
    expect(second.map((record) => record.key)).toEqual(['c', 'd', 'e']);
    expect(await records.list('marks', { limit: 3, after: 'e' })).toEqual([]);
    expect(await records.list('none', { limit: 3 })).toEqual([]);
  });
}
