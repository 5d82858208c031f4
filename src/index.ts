/**
 * The package's front door. Brokers are re-exported for those who wire by hand; a database driver is loaded only
 * when a broker that needs it is first used.
 */
export { InMemoryQueueBroker, InMemoryRecordStore, InMemoryTaskLogBroker } from '../brokers/memory.ts';
export { Persistence, RdsQueueBroker, RdsRecordStore, RdsTaskLogBroker } from '../brokers/rds/index.ts';
export type { PersistenceSettings } from '../brokers/rds/index.ts';
export { composeLedger } from './composed-ledger.ts';
export { defineConfig } from './config/config.ts';
export type {
  PersistenceConfig,
  QueueBrokerConfig,
  QueueConfig,
  SignalboxConfig,
  TaskLogConfig,
  WorkerConfig,
} from './config/config.ts';
export type { Bind, Binding } from './container.ts';
export { newId, silentLogger, systemClock } from './environment.ts';
export type { Clock, Logger, LogLevel, Random } from './environment.ts';
export {
  BrokerError,
  ConfigurationError,
  DecodeError,
  ERRORS,
  InvalidArgumentError,
  isSignalboxError,
  NonRetryableError,
  SignalboxError,
  TaskError,
} from './errors.ts';
export type { ErrorCode, ErrorPlace } from './errors.ts';
export { EventBus } from './events.ts';
export type { EventMap, EventName, Listener } from './events.ts';
export { InlineExecutor } from './executor.ts';
export type { Invocation, TaskExecutor } from './executor.ts';
export type { DrawnTask, Ledger, NewTask, SettleAnswer, SettleAnswers } from './ledger.ts';
export type { RunOptions } from './options.ts';
export { Queue } from './queue.ts';
export type {
  BrokerCapabilities,
  Delivery,
  OutgoingMessage,
  QueueBroker,
  QueueCount,
  Receipt,
  ReceiveOptions,
  Release,
} from './queue-broker.ts';
export { QueueDispatcher } from './queue-dispatcher.ts';
export type { QueueDispatcherOptions } from './queue-dispatcher.ts';
export {
  isQueueSelector,
  StrictPrioritySelector,
  StrictPriorityStrategy,
  WeightedSelector,
  WeightStrategy,
} from './queue-selector.ts';
export type { QueueSelector, QueueShare, WeightedQueue } from './queue-selector.ts';
export type { PutOptions, RecordStore, StoredRecord } from './record-store.ts';
export { isReport, Report } from './report.ts';
export type { JsonValue, ReportJson, ReportType } from './report.ts';
export { DEFAULT_RETRY, GROWING_DELAYS_MS } from './retry.ts';
export type { Backoff, RetryOptions, RetryPolicy } from './retry.ts';
export { bindSignals } from './worker/signals.ts';
export { createSignalbox, TOKENS } from './signalbox.ts';
export type { Signalbox, SignalboxOptions } from './signalbox.ts';
export type { Store, Transaction } from './store.ts';
export type { EnqueueOptions } from './submission.ts';
export { AbstractTask, Action, CallbackTask, createToken, defineTask } from './task.ts';
export type {
  Callable,
  DataOf,
  DefinedTask,
  QueueAssociable,
  QueueNameGetter,
  ResultOf,
  StandardSchema,
  Task,
  TaskContext,
  TaskDefinition,
  TaskOptions,
  TaskSettings,
  Token,
} from './task.ts';
export { TaskHandle } from './task-handle.ts';
export { TaskLog } from './task-log.ts';
export type { TaskCounts, WaitOptions } from './task-log.ts';
export type {
  ChangeAnswer,
  ClaimAnswer,
  DrawOptions,
  HeldTask,
  NewTaskLogEntry,
  Page,
  RenewAnswer,
  Settlement,
  TaskAct,
  TaskLine,
  TaskLogBroker,
  TaskLogEntry,
  TaskLogPage,
  TaskLogQuery,
} from './task-log-broker.ts';
export { TaskRegistry } from './task-registry.ts';
export type { Registrable } from './task-registry.ts';
export type { Services } from './task-runner.ts';
export { categorizeStatus, isFinished, TaskStatus } from './task-status.ts';
export type { CategorizedStatus } from './task-status.ts';
export { Worker } from './worker/worker.ts';
export type { StopOptions, StopReason, WorkerEnd, WorkerOptions } from './worker/worker.ts';
