import Synchronization

/// One line on standard error that says how far long work has come; silent unless that is a terminal.
///
/// Thread-safe. The line appears after the first second and goes away at the end.
final class ProgressBar: Sendable {
  private struct State {
    var phase = ""
    var phaseStart: ContinuousClock.Instant
    var lastDrawn: ContinuousClock.Instant?
  }

  private let isShown: Bool
  private let start = ContinuousClock.now
  private let state: Mutex<State>

  init(isQuiet: Bool) {
    isShown = !isQuiet && isErrorTerminal
    state = Mutex(State(phaseStart: start))
  }

  /// Reports `done` of `total` items of a phase; a total of 0 is not known.
  func update(_ phase: String, _ done: Int, of total: Int) {
    guard isShown else { return }
    state.withLock { state in
      let now = ContinuousClock.now
      if state.phase != phase {
        state.phase = phase
        state.phaseStart = now
      }
      guard now - start > .seconds(1) else { return }
      if let last = state.lastDrawn, now - last < .milliseconds(100), done < total { return }
      state.lastDrawn = now
      printError("\r\u{1B}[K" + Self.line(phase, done, total, elapsed: now - state.phaseStart), terminator: "")
    }
  }

  /// Removes the line.
  func finish() {
    state.withLock { state in
      if state.lastDrawn != nil { printError("\r\u{1B}[K", terminator: "") }
      state.lastDrawn = nil
    }
  }

  static func line(_ phase: String, _ done: Int, _ total: Int, elapsed: Duration) -> String {
    guard total > 0 else { return "\(phase) \(done > 0 ? String(done) : "…")" }
    let share = Double(min(done, total)) / Double(total)
    let filled = Int(share * 24)
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
    var line = "\(phase) \(bar) \(done)/\(total)"
    if done > 0, done < total {
      let seconds = elapsed / .seconds(1) * (1 - share) / share
      line += "  \(Units.fixed(seconds, seconds < 10 ? 1 : 0)) s left"
    }
    return line
  }
}
