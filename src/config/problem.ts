import type { ErrorCode } from '../errors.ts';
import { nearestName } from './nearest-name.ts';

/** Something wrong with a configuration, in words: where, what was found, what is allowed. */
export interface Problem {
  readonly code: ErrorCode;
  readonly text: string;
}

/** Stands for a value that is not shown. */
export const HIDDEN: symbol = Symbol('something else');

export function missing(name: string, names: readonly string[]): string {
  const all =
    names.length === 0 ? 'none is' : `${names.map(show).join(', ')} ${names.length === 1 ? 'is' : 'are'}`;
  return `${show(name)}; ${all} configured.${hint(name, names)}`;
}

export function state(found: unknown): string {
  if (found === HIDDEN) return 'is something else';
  return found === undefined ? 'is missing' : `is ${show(found)}`;
}

export function show(value: unknown): string {
  const shown = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? `a ${typeof value}`);
  return shown.length > 80 ? `${shown.slice(0, 77)}…` : shown;
}

export function hint(found: unknown, names: readonly string[]): string {
  const name = typeof found === 'string' ? nearestName(found, names) : undefined;
  return name === undefined ? '' : ` Did you mean ${show(name)}?`;
}

export function pathOf(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the configuration';
  return path
    .map((key) => {
      if (typeof key === 'number') return `[${key}]`;
      return /^[A-Za-z_$][\w$]*$/.test(String(key)) ? `.${String(key)}` : `[${JSON.stringify(String(key))}]`;
    })
    .join('')
    .replace(/^\./, '');
}

export function recordOf(value: unknown): Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>) : {};
}

export function fieldOf(value: unknown, key: PropertyKey): unknown {
  return Object.hasOwn(recordOf(value), key) ? recordOf(value)[key] : undefined;
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
