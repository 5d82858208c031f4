import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DecodeError, InvalidArgumentError } from '../../src/errors.ts';
import type { JsonValue } from '../../src/report.ts';
import { checkJson, decodeEnvelope, encodeEnvelope } from '../../src/task-envelope.ts';
import type { Envelope } from '../../src/task-envelope.ts';

const KNOWN = 'v id n p l o c pa m pr g pv h t r to'.split(' ');

const texts = fc.string({ unit: 'binary' });
const filled = fc.string({ unit: 'binary', minLength: 1 });
const textOrNull = fc.option(texts, { nil: null });
// Without -0, which JSON writes as 0.
const numbers = fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0);
const json = fc.json({ stringUnit: 'binary' }).map((text) => JSON.parse(text) as JsonValue);

const envelopes: fc.Arbitrary<Envelope> = fc.record(
  {
    version: fc.constant(1 as const),
    id: filled,
    taskName: filled,
    parameters: json,
    label: texts,
    owner: textOrNull,
    category: textOrNull,
    parentId: textOrNull,
    masterStatus: fc.boolean(),
    priority: fc.integer(),
    group: textOrNull,
    payloadVersion: fc.nat(),
    headers: fc.dictionary(texts, texts, { noNullPrototype: true }),
    createdAt: numbers,
    retry: fc.record(
      {
        maxAttempts: fc.integer({ min: 1 }),
        backoff: fc.oneof(fc.nat(), fc.array(fc.nat(), { minLength: 1 })),
        jitter: fc.double({ min: 0.1, max: 1, noNaN: true }),
        maxLapses: fc.integer({ min: 1 }),
        onCrash: fc.constantFrom('retry' as const, 'fail' as const),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
    timeoutMs: fc.nat(),
    unknownFields: fc.dictionary(
      texts.filter((key) => !KNOWN.includes(key)),
      json,
      { minKeys: 1, noNullPrototype: true },
    ),
  },
  {
    requiredKeys: [
      'version',
      'id',
      'taskName',
      'parameters',
      'label',
      'owner',
      'category',
      'parentId',
      'masterStatus',
      'priority',
      'group',
      'payloadVersion',
      'headers',
      'createdAt',
    ],
    noNullPrototype: true,
  },
);

function decodedOrRefused(text: string): boolean {
  try {
    return decodeEnvelope(text).version === 1;
  } catch (error) {
    return error instanceof DecodeError;
  }
}

it('is the same envelope after encoding and decoding', () => {
  fc.assert(
    fc.property(envelopes, (envelope) => {
      expect(decodeEnvelope(encodeEnvelope(envelope))).toEqual(envelope);
    }),
    { numRuns: 500 },
  );
});

it('is the same text after decoding and encoding', () => {
  fc.assert(
    fc.property(envelopes, (envelope) => {
      const text = encodeEnvelope(envelope);
      expect(encodeEnvelope(decodeEnvelope(text))).toBe(text);
    }),
  );
});

it('reads any text as an envelope or throws a DecodeError', () => {
  fc.assert(
    fc.property(fc.oneof(texts, fc.json(), fc.json({ stringUnit: 'binary' })), (text) => {
      expect(decodedOrRefused(text)).toBe(true);
    }),
    { numRuns: 1_000 },
  );
});

it('reads an envelope with any field replaced, or refuses it with a DecodeError', () => {
  fc.assert(
    fc.property(envelopes, fc.constantFrom(...KNOWN), json, (envelope, key, value) => {
      const wire = JSON.parse(encodeEnvelope(envelope)) as Record<string, unknown>;
      expect(decodedOrRefused(JSON.stringify({ ...wire, [key]: value }))).toBe(true);
    }),
    { numRuns: 1_000 },
  );
});

it('reads an envelope that was cut or changed in one place, or refuses it with a DecodeError', () => {
  fc.assert(
    fc.property(envelopes, fc.nat(), texts, fc.nat({ max: 3 }), (envelope, at, inserted, removed) => {
      const text = encodeEnvelope(envelope);
      const place = at % text.length;
      expect(decodedOrRefused(text.slice(0, place))).toBe(true);
      expect(decodedOrRefused(text.slice(0, place) + inserted + text.slice(place + removed))).toBe(true);
    }),
    { numRuns: 500 },
  );
});

it('takes of any value only what JSON carries, and gives it as JSON gives it back', () => {
  const anything = fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true });
  fc.assert(
    fc.property(fc.oneof(anything, json), (value) => {
      let checked: JsonValue;
      try {
        checked = checkJson(value, 'value');
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidArgumentError);
        return;
      }
      expect(JSON.parse(JSON.stringify(value))).toEqual(checked);
    }),
    { numRuns: 1_000 },
  );
});
