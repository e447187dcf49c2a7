public import ApusCore
import ApusPlan
import Synchronization

/// Writes down which input shapes are run, for `apus advise`: a file of JSON lines
/// `{"shapes": {"input_ids": [1, 17]}, "count": 3}`.
///
/// Runs in a row with equal shapes are one line, written when the shapes change, at ``flush()``, and when the log is let go.
/// Contexts of any threads may share a log, and processes a file: lines are appended whole. Inputs that are no tensors are
/// left out.
///
///     let log = try ShapeLog(path: "shapes.jsonl")
///     context.record(to: log)
public final class ShapeLog: Sendable {
  fileprivate struct State {
    var names: [String] = []
    var shapes: [[Int]] = []
    /// Runs with these shapes that are not written yet.
    var count = 0
    var failure: FileError?
  }

  private let file: AppendFile
  private let state = Mutex(State())

  /// Opens a file to append to; it is made when it is not there.
  public init(path: String) throws(FileError) { file = try AppendFile(path: path) }

  deinit { state.withLock { write(&$0) } }

  /// Writes what is not written yet.
  ///
  /// - Throws: the first failure to write since the last call; runs never fail because of their log.
  public func flush() throws(FileError) {
    let failure = state.withLock { state in
      write(&state)
      defer { state.failure = nil }
      return state.failure
    }
    if let failure { throw failure }
  }

  /// Counts a run on what is bound. Allocates nothing while the shapes stay.
  func record(_ bindings: Bindings) {
    state.withLock { state in
      if state.count == 0 || !state.holds(bindings) {
        write(&state)
        state.take(bindings)
      }
      state.count += 1
    }
  }

  private func write(_ state: inout State) {
    if state.count == 0 { return }
    let shapes = zip(state.names, state.shapes).map { "\(JSONText.quoted($0)): \($1)" }.joined(separator: ", ")
    do throws(FileError) {
      try file.append("{\"shapes\": {\(shapes)}, \"count\": \(state.count)}\n")
    } catch {
      if state.failure == nil { state.failure = error }
    }
    state.count = 0
  }
}

extension ShapeLog.State {
  fileprivate func holds(_ bindings: Bindings) -> Bool {
    var position = 0
    for index in 0..<bindings.inputs.count where bindings.plan.inputs[index].type.tensor != nil {
      guard position < shapes.count, shapes[position] == bindings.inputs[index].shape,
        names[position] == bindings.plan.inputs[index].name
      else { return false }
      position += 1
    }
    return position == shapes.count
  }

  fileprivate mutating func take(_ bindings: Bindings) {
    names = []
    shapes = []
    for (binding, input) in zip(bindings.plan.inputs, bindings.inputs) where binding.type.tensor != nil {
      names.append(binding.name)
      shapes.append(input.shape)
    }
  }
}
