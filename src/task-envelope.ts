import { DecodeError, InvalidArgumentError } from './errors.ts';
import type { ErrorCode, ErrorPlace } from './errors.ts';
import type { JsonValue } from './report.ts';
import { resolveRetry } from './retry.ts';
import type { RetryOptions } from './retry.ts';

/** A task as it travels: all that a worker needs, and nothing that changes on the way. */
export interface Envelope {
  readonly version: 1;
  readonly id: string;
  readonly taskName: string;
  readonly parameters: JsonValue;
  readonly label: string;
  readonly owner: string | null;
  readonly category: string | null;
  readonly parentId: string | null;
  readonly masterStatus: boolean;
  readonly priority: number;
  readonly group: string | null;
  /** Which shape the parameters have; the task's own count, from 1. */
  readonly payloadVersion: number;
  readonly headers: Readonly<Record<string, string>>;
  /** UTC milliseconds. */
  readonly createdAt: number;
  readonly retry?: RetryOptions;
  readonly timeoutMs?: number;
  /** What a newer Signalbox of the same version added: kept, and written again. */
  readonly unknownFields?: Readonly<Record<string, JsonValue>>;
}

const VERSION = 1;

/** Every key of the wire; any other is an unknown field. */
const KEYS: ReadonlySet<string> = new Set('v id n p l o c pa m pr g pv h t r to'.split(' '));

/** Nesting that is taken. JSON itself has no limit, but whoever walks the value has a stack. */
const MAX_DEPTH = 500;

/**
 * One JSON object. A field with its usual value is left out.
 *
 * | key | field          | left out when |   | key | field          | left out when |
 * |-----|----------------|---------------|---|-----|----------------|---------------|
 * | v   | version        | never         |   | m   | masterStatus   | false         |
 * | id  | id             | never         |   | pr  | priority       | 0             |
 * | n   | taskName       | never         |   | g   | group          | null          |
 * | p   | parameters     | never         |   | pv  | payloadVersion | 1             |
 * | l   | label          | empty         |   | h   | headers        | empty         |
 * | o   | owner          | null          |   | t   | createdAt      | never         |
 * | c   | category       | null          |   | r   | retry          | absent        |
 * | pa  | parentId       | null          |   | to  | timeoutMs      | absent        |
 *
 * Throws `PARAMETERS_NOT_JSON` with the path of what JSON cannot carry.
 */
export function encodeEnvelope(envelope: Envelope): string {
  const written = {
    v: envelope.version,
    id: envelope.id,
    n: envelope.taskName,
    p: checkJson(envelope.parameters, 'parameters'),
    l: envelope.label === '' ? undefined : envelope.label,
    o: envelope.owner ?? undefined,
    c: envelope.category ?? undefined,
    pa: envelope.parentId ?? undefined,
    m: envelope.masterStatus ? true : undefined,
    pr: envelope.priority === 0 ? undefined : envelope.priority,
    g: envelope.group ?? undefined,
    pv: envelope.payloadVersion === 1 ? undefined : envelope.payloadVersion,
    h: Object.keys(envelope.headers).length === 0 ? undefined : envelope.headers,
    t: envelope.createdAt,
    r: envelope.retry,
    to: envelope.timeoutMs,
  };
  if (envelope.unknownFields === undefined) return JSON.stringify(written);
  const unknown = unknownOf(envelope.unknownFields);
  checkJson(unknown, 'unknownFields');
  return JSON.stringify({ ...written, ...unknown });
}

/** Throws a DecodeError, `ENVELOPE_TOO_NEW` or `ENVELOPE_INVALID`, and nothing else, whatever the text. */
export function decodeEnvelope(text: string): Envelope {
  const wire = parse(text);
  const place = placeOf(wire);
  if (typeof wire['v'] === 'number' && Number.isSafeInteger(wire['v']) && wire['v'] > VERSION) {
    throw new DecodeError(
      'ENVELOPE_TOO_NEW',
      `The envelope has version ${wire['v']}; this process reads up to ${VERSION}`,
      { place },
    );
  }
  const field = <T extends JsonValue>(key: string, is: (value: unknown) => value is T, usual?: T): T => {
    const value = Object.hasOwn(wire, key) ? wire[key] : usual;
    if (is(value)) return value;
    throw new DecodeError('ENVELOPE_INVALID', `The envelope has no valid field "${key}"`, { place });
  };
  const unknown = unknownOf(wire);
  return {
    version: field('v', isVersion),
    id: field('id', isFilled),
    taskName: field('n', isFilled),
    parameters: field('p', isPresent),
    label: field('l', isString, ''),
    owner: field('o', isStringOrNull, null),
    category: field('c', isStringOrNull, null),
    parentId: field('pa', isStringOrNull, null),
    masterStatus: field('m', isBoolean, false),
    priority: field('pr', isNumber, 0),
    group: field('g', isStringOrNull, null),
    payloadVersion: field('pv', isNumber, 1),
    headers: field('h', isHeaders, {}),
    createdAt: field('t', isNumber),
    ...(Object.hasOwn(wire, 'r') && { retry: toRetry(wire['r'], place) }),
    ...(Object.hasOwn(wire, 'to') && { timeoutMs: field('to', isNumber) }),
    ...(Object.keys(unknown).length > 0 && { unknownFields: unknown }),
  };
}

type Wire = Readonly<Record<string, JsonValue>>;

function parse(text: string): Wire {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DecodeError('ENVELOPE_INVALID', 'The envelope is no JSON', { cause });
  }
  if (isWire(value)) return value;
  throw new DecodeError('ENVELOPE_INVALID', 'The envelope is no JSON object');
}

function placeOf({ id, n }: Wire): ErrorPlace {
  return { ...(isFilled(id) && { task: id }), ...(isFilled(n) && { taskName: n }) };
}

/** By own entries, so that a field named `__proto__` stays a field. */
function unknownOf(fields: Wire): Wire {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => !KEYS.has(key)));
}

function toRetry(value: unknown, place: ErrorPlace): RetryOptions {
  const options = value as RetryOptions;
  try {
    resolveRetry(options);
    return options;
  } catch (cause) {
    throw new DecodeError('ENVELOPE_INVALID', 'The envelope has no valid field "r"', { cause, place });
  }
}

function isWire(value: unknown): value is Wire {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isVersion(value: unknown): value is 1 {
  return value === VERSION;
}

function isPresent(value: unknown): value is JsonValue {
  return value !== undefined;
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function isFilled(value: unknown): value is string {
  return isString(value) && value !== '';
}

function isStringOrNull(value: unknown): value is string | null {
  return value === null || isString(value);
}

function isBoolean(value: unknown): value is boolean {
  return typeof value === 'boolean';
}

/** JSON text can hold 1e999, which is Infinity once read. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isHeaders(value: unknown): value is Record<string, string> {
  return isWire(value) && Object.values(value).every(isString);
}

/**
 * A copy of the value, just as it comes out of JSON again. Throws InvalidArgumentError with the path of anything else: big integers, functions,
 * symbols, NaN, infinities, cycles, undefined in lists, and instances of classes, dates included. Undefined properties are left out.
 */
export function checkJson(
  value: unknown,
  path: string,
  code: Extract<ErrorCode, 'PARAMETERS_NOT_JSON' | 'RESULT_NOT_JSON'> = 'PARAMETERS_NOT_JSON',
): JsonValue {
  return copyJson(value, { path, code, keys: [], ancestors: [] });
}

interface Walk {
  readonly path: string;
  readonly code: ErrorCode;
  readonly keys: (string | number)[];
  readonly ancestors: object[];
}

function copyJson(value: unknown, walk: Walk): JsonValue {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  // Adding 0 turns -0 into 0, as JSON does.
  if (typeof value === 'number') return Number.isFinite(value) ? value + 0 : refuse(walk, `is ${value}`);
  if (typeof value === 'bigint') return refuse(walk, 'is a BigInt');
  if (typeof value !== 'object') {
    return refuse(walk, value === undefined ? 'is undefined' : `is a ${typeof value}`);
  }
  if (walk.ancestors.includes(value)) return refuse(walk, 'contains itself');
  if (walk.ancestors.length === MAX_DEPTH)
    return refuse(walk, `is nested more than ${MAX_DEPTH} levels deep`);
  walk.ancestors.push(value);
  const copy = Array.isArray(value) ? copyList(value, walk) : copyObject(value, walk);
  walk.ancestors.pop();
  return copy;
}

function copyList(list: readonly unknown[], walk: Walk): JsonValue {
  // Array.from also visits the holes.
  return Array.from(list, (item, i) => copyAt(i, item, walk));
}

function copyObject(value: object, walk: Walk): JsonValue {
  const prototype: unknown = Object.getPrototypeOf(value);
  // Another realm's Object.prototype has no prototype either.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    return refuse(walk, `is an instance of the class ${className(value)}`);
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') return refuse(walk, 'has a method toJSON');
  const copy: Record<string, JsonValue> = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    const copied = copyAt(key, item, walk);
    if (key === '__proto__') {
      Object.defineProperty(copy, key, {
        value: copied,
        enumerable: true,
        writable: true,
        configurable: true,
      });
    } else {
      copy[key] = copied;
    }
  }
  return copy;
}

function className(value: object): string {
  const maker: unknown = value.constructor;
  return typeof maker === 'function' && maker.name !== '' ? maker.name : '(anonymous)';
}

function copyAt(key: string | number, value: unknown, walk: Walk): JsonValue {
  walk.keys.push(key);
  const copy = copyJson(value, walk);
  walk.keys.pop();
  return copy;
}

function refuse(walk: Walk, why: string): never {
  const path = walk.keys.map((key) => {
    if (typeof key === 'number') return `[${key}]`;
    return /^[\w$]+$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
  });
  throw new InvalidArgumentError(walk.code, `${walk.path}${path.join('')} ${why}, which JSON cannot carry`);
}
