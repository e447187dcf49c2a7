package import ApusCore
import ApusGraph
package import ApusImport

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Asks another process how models fail: a worker, or a command of the user's.
package final class ModelJudge {
  private let worker: ModelWorker
  private let test: String?
  private let timeout: Duration
  /// The file that models are written to.
  private let trial: String
  /// How many models were tried.
  package private(set) var trialCount = 0

  package init(worker: ModelWorker, test: String?, timeout: Duration, trial: String) {
    self.worker = worker
    self.test = test
    self.timeout = timeout
    self.trial = trial
  }

  /// How a model fails, with a message; nil when it does not.
  package func failure(_ model: ModelCut) throws(ConformanceError) -> (failure: ModelFailure, message: String)? {
    try write(model)
    trialCount += 1
    if let test {
      return try fails(test) ? (ModelFailure(kind: .error, signature: "test"), "the command ends with 0") : nil
    }
    switch try worker.ask("check \(trial)") {
    case .ended(let how, let errors):
      return (ModelFailure(kind: .crash, signature: how), "the process ended: \(how)\n\(errors)")
    case .lines(let lines):
      guard let report = lines.first.flatMap(FailureReport.init(line:)), let failure = report.failure else {
        return nil
      }
      return (failure, report.message.replacing(trial + ": ", with: ""))
    }
  }

  /// Types of a model's outputs.
  package func types(_ model: ModelCut) throws(ConformanceError) -> [String: TensorType] {
    try write(model)
    guard case .lines(let lines) = try worker.ask("types \(trial)"), let line = lines.first else { return [:] }
    let texts = FailureReport(line: line)?.types ?? [:]
    return texts.compactMapValues { try? ValueType(parsing: $0).tensor }
  }

  private func write(_ model: ModelCut) throws(ConformanceError) {
    do { try AtomicFile.write(try model.bytes(), to: trial) } catch {
      throw ConformanceError("APUS-T-0004", "cannot write a smaller model: \(error)", place: trial)
    }
  }

  private func fails(_ command: String) throws(ConformanceError) -> Bool {
    setenv("MODEL", trial, 1)
    let shell = ModelWorker(executable: "/bin/sh", arguments: ["-c", "(\(command)) >&2"], timeout: timeout)
    guard case .ended(let how, _) = try shell.ask("") else { return false }
    return how == "exit code 0"
  }
}
