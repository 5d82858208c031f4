import type { z } from 'zod';
import { ConfigurationError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { configSchema } from './config-schema.ts';
import type { CheckedConfig } from './config-schema.ts';
import { contradictions } from './contradictions.ts';
import { fieldOf, HIDDEN, hint, pathOf, state } from './problem.ts';
import type { Problem } from './problem.ts';

/**
 * @param origin What the message calls the configuration: the path of its file, say.
 * @throws ConfigurationError with every problem in its message and the code of the first: `CONFIG_INVALID`, `QUEUES_MISSING`,
 * `QUEUE_NAME_INVALID`, `QUEUE_DUPLICATE`, `QUEUE_NAME_COLLISION`, `QUEUE_UNKNOWN`, `BROKER_UNKNOWN`, `PERSISTENCE_UNKNOWN` or
 * `SHARED_QUEUE_NEEDS_SHARED_LOG`.
 */
export function checkConfig(value: unknown, origin: string): CheckedConfig {
  const result = configSchema.safeParse(value);
  const misshapen = result.success ? [] : result.error.issues.flatMap((issue) => describeIssue(issue, value));
  const problems = [...misshapen, ...contradictions(value)];
  const [first, ...others] = problems;
  if (result.success && first === undefined) return result.data;
  if (first === undefined) throw new ConfigurationError('CONFIG_INVALID', `${origin} is no configuration.`);
  throw new ConfigurationError(
    first.code,
    others.length === 0
      ? `${origin}: ${first.text}`
      : `${origin} has ${problems.length} problems:\n${problems.map(({ text }) => `  ${text}`).join('\n')}`,
  );
}

function describeIssue(issue: z.core.$ZodIssue, root: unknown): Problem[] {
  const path = pathOf(issue.path);
  const value = issue.path.reduce<unknown>((holder, key) => fieldOf(holder, key), root);
  // A connection may hold a password.
  const found = issue.path.includes('connection') && value !== undefined ? HIDDEN : value;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      code: 'CONFIG_INVALID',
      text: `${pathOf([...issue.path, key])} is no setting; allowed: ${issue.message}.${hint(key, issue.message.split(', '))}`,
    }));
  }
  if (issue.code === 'invalid_union' && issue.path.at(-1) === 'type') {
    const types = ['memory', 'rds'];
    return [
      {
        code: 'BROKER_UNKNOWN',
        text: `${path} ${state(found)}; allowed: ${types.join(', ')}.${hint(found, types)}`,
      },
    ];
  }
  const params = issue.code === 'custom' ? issue.params : undefined;
  const values = Array.isArray(params?.['values']) ? params['values'].map(String) : [];
  return [
    {
      code: codeOf(path, found, params?.['code'] === 'QUEUE_NAME_INVALID'),
      text: `${path} ${state(found)}; allowed: ${issue.message}.${hint(found, values)}`,
    },
  ];
}

function codeOf(path: string, found: unknown, isName: boolean): ErrorCode {
  if (path === 'queues' && (found === undefined || Array.isArray(found))) return 'QUEUES_MISSING';
  return isName ? 'QUEUE_NAME_INVALID' : 'CONFIG_INVALID';
}
