import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import { checkJson, decodeEnvelope, encodeEnvelope } from '../../src/task-envelope.ts';
import type { Envelope } from '../../src/task-envelope.ts';

const plain: Envelope = {
  version: 1,
  id: '0199b1c2-0000-7000-8000-000000000001',
  taskName: 'billing.generate-report',
  parameters: { month: '2026-10' },
  label: '',
  owner: null,
  category: null,
  parentId: null,
  masterStatus: false,
  priority: 0,
  group: null,
  payloadVersion: 1,
  headers: {},
  createdAt: 1_760_000_000_000,
};

const full: Envelope = {
  ...plain,
  label: 'October bill',
  owner: 'u1',
  category: 'export',
  parentId: 'p1',
  masterStatus: true,
  priority: -3,
  group: 'customer-7',
  payloadVersion: 4,
  headers: { traceparent: '00-ab-cd-01' },
  retry: { maxAttempts: 3, backoff: [1_000, 2_000], jitter: 0 },
  timeoutMs: 5_000,
  unknownFields: { x: [1, { y: null }] },
};

function thrownBy(act: () => unknown): { kind: string; code: string; message: string; place: object } {
  try {
    act();
  } catch (error) {
    if (isSignalboxError(error)) {
      return { kind: error.name, code: error.code, message: error.message, place: error.place };
    }
    throw error;
  }
  throw new Error('Nothing was thrown');
}

function wire(changes: Record<string, unknown>): string {
  return JSON.stringify({ v: 1, id: 'a', n: 'b', p: null, t: 1, ...changes });
}

describe('an envelope', () => {
  it.each([plain, full])('is the same after a round trip', (envelope) => {
    expect(decodeEnvelope(encodeEnvelope(envelope))).toEqual(envelope);
  });

  it('leaves fields with their usual value off the wire', () => {
    expect(JSON.parse(encodeEnvelope(plain))).toEqual({
      v: 1,
      id: plain.id,
      n: plain.taskName,
      p: { month: '2026-10' },
      t: plain.createdAt,
    });
  });

  it('keeps fields that it does not know and writes them again', () => {
    const text = wire({ x: 1, later: { nested: [true] } });
    const envelope = decodeEnvelope(text);
    expect(envelope.unknownFields).toEqual({ x: 1, later: { nested: [true] } });
    expect(JSON.parse(encodeEnvelope(envelope))).toEqual(JSON.parse(text));
  });

  it('never lets an unknown field take the place of a known one', () => {
    const text = encodeEnvelope({ ...plain, unknownFields: { id: 'other', x: 1 } });
    expect(decodeEnvelope(text)).toEqual({ ...plain, unknownFields: { x: 1 } });
  });

  it('carries fields named __proto__ as fields, and pollutes no prototype', () => {
    const text = wire({}).replace(
      '"p":null',
      '"p":{"__proto__":{"admin":true}},"h":{"__proto__":"h"},"__proto__":{"admin":true}',
    );
    const envelope = decodeEnvelope(text);
    expect(Object.hasOwn(envelope.parameters as object, '__proto__')).toBe(true);
    expect((envelope.parameters as { admin?: boolean }).admin).toBeUndefined();
    expect((envelope as { admin?: boolean }).admin).toBeUndefined();
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
    expect(decodeEnvelope(encodeEnvelope(envelope))).toEqual(envelope);
    expect(encodeEnvelope(envelope).match(/"__proto__"/g)).toHaveLength(3);
  });

  it('carries lone surrogates and null characters as escapes', () => {
    const envelope: Envelope = { ...plain, parameters: '\ud800 \u0000 \udfff' };
    expect(encodeEnvelope(envelope)).toMatch(/^[\u0020-\u007e]*$/);
    expect(decodeEnvelope(encodeEnvelope(envelope))).toEqual(envelope);
  });
});

describe('decoding', () => {
  it.each([
    ['is empty', ''],
    ['is no JSON', 'hello'],
    ['is a list', '[]'],
    ['is null', 'null'],
    ['is a string', '"x"'],
    ['is an empty object', '{}'],
    ['has no version', wire({ v: undefined })],
    ['has version 0', wire({ v: 0 })],
    ['has a text as version', wire({ v: '2' })],
    ['has no id', wire({ id: undefined })],
    ['has an empty id', wire({ id: '' })],
    ['has a number as id', wire({ id: 7 })],
    ['has an empty task name', wire({ n: '' })],
    ['has no parameters', wire({ p: undefined })],
    ['has no creation time', wire({ t: undefined })],
    ['has an infinite creation time', wire({ t: 1 }).replace('"t":1', '"t":1e999')],
    ['has a number as label', wire({ l: 1 })],
    ['has null as label', wire({ l: null })],
    ['has a number as owner', wire({ o: 1 })],
    ['has a text as master status', wire({ m: 'yes' })],
    ['has a text as priority', wire({ pr: '1' })],
    ['has a list as headers', wire({ h: [] })],
    ['has a header that is a number', wire({ h: { a: 1 } })],
    ['has a retry that makes no sense', wire({ r: { maxAttempts: 0 } })],
    ['has null as retry', wire({ r: null })],
    ['has a text as timeout', wire({ to: '5' })],
    ['would take a field from the prototype', '{"__proto__":{"v":1,"id":"a","n":"b","p":null,"t":1}}'],
  ])('refuses a text that %s', (_case, text) => {
    expect(thrownBy(() => decodeEnvelope(text))).toMatchObject({
      kind: 'DecodeError',
      code: 'ENVELOPE_INVALID',
    });
  });

  it('says that an envelope of a newer version needs an upgrade, and which task it is', () => {
    expect(thrownBy(() => decodeEnvelope('{"v":2,"id":"a","n":"b"}'))).toMatchObject({
      kind: 'DecodeError',
      code: 'ENVELOPE_TOO_NEW',
      place: { task: 'a', taskName: 'b' },
    });
  });

  it('names the field that is wrong', () => {
    expect(thrownBy(() => decodeEnvelope(wire({ pr: 'high' }))).message).toContain('"pr"');
  });

  it('reads parameters that are nested a million levels deep without running out of stack', () => {
    const depth = 1_000_000;
    const text = wire({}).replace('"p":null', `"p":${'['.repeat(depth)}${']'.repeat(depth)}`);
    const envelope = decodeEnvelope(text);
    expect(thrownBy(() => encodeEnvelope(envelope)).code).toBe('PARAMETERS_NOT_JSON');
  });

  it('refuses to write unknown fields that are nested too deep', () => {
    const depth = 100_000;
    const envelope = decodeEnvelope(
      wire({ x: 0 }).replace('"x":0', `"x":${'['.repeat(depth)}${']'.repeat(depth)}`),
    );
    expect(thrownBy(() => encodeEnvelope(envelope)).message).toContain('unknownFields.x');
  });
});

describe('checking for JSON', () => {
  class Price {
    readonly amount = 1;
  }
  const cycle: Record<string, unknown> = {};
  cycle['list'] = [cycle];
  const bomb: unknown = JSON.parse('['.repeat(501) + ']'.repeat(501));

  it.each<[string, unknown, string]>([
    ['a big integer', { total: 1n }, 'parameters.total is a BigInt'],
    ['NaN', { items: [0, 1, 2, { total: NaN }] }, 'parameters.items[3].total is NaN'],
    ['an infinity', [-Infinity], 'parameters[0] is -Infinity'],
    ['a function', { run: () => 1 }, 'parameters.run is a function'],
    ['a symbol', { key: Symbol('s') }, 'parameters.key is a symbol'],
    ['undefined', undefined, 'parameters is undefined'],
    ['undefined in a list', [1, undefined], 'parameters[1] is undefined'],
    ['a hole in a list', new Array(2), 'parameters[0] is undefined'],
    ['an instance of a class', { price: new Price() }, 'parameters.price is an instance of the class Price'],
    ['a date', { at: new Date(0) }, 'parameters.at is an instance of the class Date'],
    ['a map', new Map(), 'parameters is an instance of the class Map'],
    ['a buffer', Buffer.from('a'), 'parameters is an instance of the class Buffer'],
    ['an error', new Error('no'), 'parameters is an instance of the class Error'],
    ['an object that writes itself', Object.create({ toJSON: () => 1 }), 'parameters is an instance'],
    [
      'a method toJSON',
      Object.defineProperty({}, 'toJSON', { value: () => 1 }),
      'parameters has a method toJSON',
    ],
    ['a cycle', cycle, 'parameters.list[0] contains itself'],
    ['a key that is no identifier', { 'a b': { '"': 1n } }, 'parameters["a b"]["\\""] is a BigInt'],
    ['501 levels', bomb, 'is nested more than 500 levels deep'],
  ])('refuses %s and says where', (_case, value, message) => {
    const thrown = thrownBy(() => checkJson(value, 'parameters'));
    expect(thrown).toMatchObject({ kind: 'InvalidArgumentError', code: 'PARAMETERS_NOT_JSON' });
    expect(thrown.message).toContain(message);
  });

  it('gives its error the code for results when asked to', () => {
    expect(thrownBy(() => checkJson([1n], 'result', 'RESULT_NOT_JSON'))).toMatchObject({
      code: 'RESULT_NOT_JSON',
      message: 'result[0] is a BigInt, which JSON cannot carry',
    });
  });

  it('leaves undefined properties out', () => {
    expect(Object.keys(checkJson({ a: undefined, b: 1 }, 'parameters') as object)).toEqual(['b']);
  });

  it('takes objects without a prototype, and those of another realm', () => {
    const bare = Object.assign(Object.create(null) as object, { a: 1 });
    expect(checkJson(bare, 'parameters')).toEqual({ a: 1 });
    expect(checkJson(runInNewContext('({ a: [1, { b: 2 }] })'), 'parameters')).toEqual({ a: [1, { b: 2 }] });
  });

  it('takes the same object twice when it does not contain itself', () => {
    const shared = { a: 1 };
    expect(checkJson([shared, shared, { shared }], 'parameters')).toEqual([shared, shared, { shared }]);
  });

  it('takes -0 for 0, as JSON does', () => {
    expect(checkJson([-0], 'parameters')).toEqual([0]);
  });

  it('gives a copy that later changes do not reach', () => {
    const items = [1];
    const copy = checkJson({ items }, 'parameters');
    items.push(2);
    expect(copy).toEqual({ items: [1] });
  });
});
