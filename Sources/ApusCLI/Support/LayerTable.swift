import ApusCore
import ApusRuntime

/// The steps of a run with their times and where they stand below the device's ceilings, as `apus bench --layers` prints them.
struct LayerTable {
  let layers: [LayerProfiler.Layer]
  /// Nil where the device's are not known.
  let ceilings: DeviceCeilings?
  /// Whether steps that otherwise run side by side were timed one after the other.
  let serialisesLanes: Bool

  /// Time of a run: nested steps are part of those that hold them.
  private var total: Double {
    layers.reduce(0) { $1.depth == 0 ? $0 + Units.milliseconds($1.median) : $0 }
  }

  private static func rate(_ amount: Int, _ layer: LayerProfiler.Layer) -> Double {
    let seconds = layer.median / .seconds(1)
    return seconds > 0 ? Double(amount) / seconds / 1e9 : 0
  }

  /// Nil for steps that hold others, whose work is theirs.
  private func position(_ index: Int) -> RooflinePosition? {
    let layer = layers[index]
    let holdsOthers = index + 1 < layers.count && layers[index + 1].depth > layer.depth
    guard let ceilings, !holdsOthers, layer.count > 0 else { return nil }
    return RooflinePosition(
      work: layer.work, traffic: layer.traffic, dtype: layer.dtype, seconds: layer.median / .seconds(1), ceilings)
  }

  var text: String {
    var table = Table([
      ("#", .right), ("step", .left), ("tactic", .left), ("ms", .right), ("share", .right), ("ops", .right),
      ("bytes", .right), ("GFLOP/s", .right), ("GB/s", .right), ("roofline", .right), ("bound", .left),
      ("could save ms", .right), ("sources", .left),
    ])
    for (index, layer) in layers.enumerated() {
      let time = Units.milliseconds(layer.median)
      let sources = layer.sources.prefix(3).joined(separator: ", ") + (layer.sources.count > 3 ? ", …" : "")
      let position = position(index)
      table.add([
        String(layer.step), String(repeating: "  ", count: layer.depth) + layer.name, layer.tactic,
        Units.fixed(time, 4), total > 0 ? Units.fixed(100 * time / total, 1) + "%" : "-",
        layer.work == 0 ? "-" : Units.count(layer.work), layer.traffic == 0 ? "-" : Units.bytes(layer.traffic),
        Units.fixed(Self.rate(layer.work, layer), 1), Units.fixed(Self.rate(layer.traffic, layer), 1),
        position.map { Units.fixed(100 * $0.share, 0) + "%" } ?? "-", position?.bound.rawValue ?? "-",
        position.map { Units.fixed(1000 * $0.gain, 4) } ?? "-", sources,
      ])
    }
    let note = serialisesLanes ? ["Steps on several lanes are timed one after the other."] : []
    return (note + [table.text, "all steps: \(Units.fixed(total, 3)) ms"] + summary).joined(separator: "\n")
  }

  /// The ceilings, and what the steps of each bound take and could save.
  private var summary: [String] {
    guard let ceilings else { return [] }
    let compute = ceilings.operationsPerSecond.sorted { $0.key.rawValue < $1.key.rawValue }.map {
      "\(Units.fixed($0.value / 1e9, 1)) GFLOP/s in \($0.key)"
    }.joined(separator: ", ")
    var lines = [
      "ceilings of this device: \(compute)\(ceilings.isComputeMeasured ? "" : " (by its clock)"), "
        + "\(Units.fixed(ceilings.bytesPerSecond / 1e9, 1)) GB/s, a launch \(Units.fixed(1e6 * ceilings.launchSeconds, 2)) us"
    ]
    for bound in [RooflinePosition.Bound.compute, .memory, .launch] {
      let found = layers.indices.compactMap { index in
        position(index).flatMap { $0.bound == bound ? (Units.milliseconds(layers[index].median), $0.gain) : nil }
      }
      if found.isEmpty { continue }
      let (time, gain) = found.reduce((0, 0)) { ($0.0 + $1.0, $0.1 + 1000 * $1.1) }
      lines.append(
        "bound by \(bound.rawValue): \(found.count) steps, \(Units.fixed(time, 3)) ms; at the roofline "
          + "\(Units.fixed(time - gain, 3)) ms")
    }
    return lines
  }

  /// What reports hold: the steps, and the ceilings that they are compared with.
  var members: [(String, JSON)] {
    [
      ("layers", json), ("layers_serialise_lanes", .bool(serialisesLanes)),
      ("ceilings", ceilings.map(Self.json) ?? .null),
    ]
  }

  private static func json(_ ceilings: DeviceCeilings) -> JSON {
    .object([
      (
        "gflop_per_s",
        .object(
          ceilings.operationsPerSecond.sorted { $0.key.rawValue < $1.key.rawValue }.map {
            ($0.key.rawValue, .number($0.value / 1e9))
          })
      ),
      ("gflop_measured", .bool(ceilings.isComputeMeasured)), ("gb_per_s", .number(ceilings.bytesPerSecond / 1e9)),
      ("launch_us", .number(1e6 * ceilings.launchSeconds)),
    ])
  }

  private var json: JSON {
    .array(
      layers.indices.map { index in
        let layer = layers[index]
        let position = position(index)
        return .object([
          ("step", .int(layer.step)), ("name", .string(layer.name)), ("depth", .int(layer.depth)),
          ("tactic", .string(layer.tactic)), ("sources", .strings(layer.sources)),
          ("median_ms", .number(Units.milliseconds(layer.median))), ("count", .int(layer.count)),
          ("operations", .int(layer.work)), ("bytes", .int(layer.traffic)),
          ("gflop_per_s", .number(Self.rate(layer.work, layer))),
          ("gb_per_s", .number(Self.rate(layer.traffic, layer))),
          ("roofline_share", position.map { .number($0.share) } ?? .null),
          ("bound", position.map { .string($0.bound.rawValue) } ?? .null),
          ("could_save_ms", position.map { .number(1000 * $0.gain) } ?? .null),
        ])
      })
  }
}
