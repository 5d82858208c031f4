import 'reflect-metadata';
import { Container } from 'inversify';
import type { Token } from './task.ts';

export type { Container } from 'inversify';

/** Looks a service up; what it finds is made once. */
export type GetService = <T>(token: Token<T>) => T;

export interface Binding<T> {
  toConstant(value: T): void;
  /** Called at the first use, once. */
  toFactory(make: (get: GetService) => T): void;
}

export type Bind = <T>(token: Token<T>) => Binding<T>;

/** The parts of a Signalbox as constants, and beside them what the user binds: all of it singletons. */
export function buildContainer(
  parts: ReadonlyMap<symbol, unknown>,
  bindings: (bind: Bind) => void = () => undefined,
): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  for (const [token, part] of parts) container.bind(token).toConstantValue(part);
  bindings((token) => ({
    toConstant: (value) => {
      container.bind(token).toConstantValue(value);
    },
    toFactory: (make) => {
      container
        .bind(token)
        .toDynamicValue((context) => make((needed) => context.get(needed)))
        .inSingletonScope();
    },
  }));
  return container;
}
