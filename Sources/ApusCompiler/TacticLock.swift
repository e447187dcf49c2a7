package import ApusPlan

/// How each step of an engine is computed, as a text that pins it: with a lock a build measures nothing, and gives the same bytes
/// each time.
///
/// ```
/// apus-lock 1
/// fuse "mlp/product" "mlp/act"
/// layout nchw "stem/conv"
/// target "x86-64-v3" profile "default" compiler "clang version 18.1.3"
/// step "gemm 6x16 coarse" f32 18.482us "mlp/product" "mlp/act"
/// step "loops" f32 - "norm"
/// run 262144 1.25e-05
/// ```
/// A `step` line says the tactic, the element types, what was measured, and the model's nodes; steps that compute a region together
/// have one line. `fuse`, `no-fuse` and `layout` are what was
/// asked for. `run` lines are the measured times of whole runs: operations and seconds. Lines that begin with `#` are comments.
package struct TacticLock: Sendable {
  /// The steps of one region, or one other step.
  package struct Line: Sendable {
    package var nodes: [String]
    package var tactic: String
    /// Element types of what it reads and writes: `f32`, `f16,f32`.
    package var precision: String
    /// What it took by itself where it was measured. Nothing depends on it.
    package var seconds: Double?
    /// Where it stands in the file; 0 for lines of plans.
    package var number = 0
  }

  /// The steps of one profile for one target.
  package struct Section: Sendable {
    package var target: String
    package var profile: String
    /// What compiled the kernels, and so decided about the bytes of images.
    package var compiler: String
    package var lines: [Line] = []
    package var timings: [Timing] = []

    var title: String { "target '\(target)', profile '\(profile)'" }
  }

  /// What was asked for of fusion and layouts.
  package var wishes = Wishes()
  package var sections: [Section] = []
  /// The file that it was read from.
  package var path = "lock"

  /// What plans are.
  ///
  /// - Parameters:
  ///   - compiler: of a target's kernels.
  ///   - seconds: what a tactic of a region takes on a target, where that was measured.
  package init(
    _ plans: [Plan], wishes: Wishes = Wishes(), compiler: (Fingerprint) -> String,
    seconds: (_ target: Fingerprint, _ region: String, _ tactic: String) -> Double? = { _, _, _ in nil }
  ) {
    self.wishes = wishes
    for plan in plans {
      var section = Section(
        target: plan.fingerprint.target, profile: plan.profile.name, compiler: compiler(plan.fingerprint))
      section.lines = Self.lines(plan) { seconds(plan.fingerprint, $0, $1) }
      section.timings = plan.timings
      sections.append(section)
    }
  }

  /// The tactics of one profile, to be taken while its graph is cut into steps; nil where the lock says nothing of it.
  func tactics(target: String, profile: String) -> LockedTactics? {
    section(target: target, profile: profile).map { LockedTactics($0.lines) }
  }

  func section(target: String, profile: String) -> Section? {
    sections.first { $0.target == target && $0.profile == profile }
  }

  /// The measured times of whole runs.
  func timings(of plan: Plan) -> [Timing] {
    section(target: plan.fingerprint.target, profile: plan.profile.name)?.timings ?? []
  }
}

/// The tactics that a lock names for the regions of one profile. Each is taken once, in order.
final class LockedTactics {
  private var tactics: [[String]: [String]] = [:]

  init(_ lines: [TacticLock.Line]) {
    for line in lines { tactics[line.nodes, default: []].append(line.tactic) }
  }

  /// The next that is one of those a region can be computed by: steps that are no regions may come of the same nodes.
  func next(for nodes: [String], among possible: [String]) -> String? {
    guard let index = tactics[nodes]?.firstIndex(where: possible.contains) else { return nil }
    return tactics[nodes]?.remove(at: index)
  }
}
