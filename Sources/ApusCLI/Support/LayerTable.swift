import ApusRuntime

/// The steps of a run with their times, as `apus bench --layers` prints them.
struct LayerTable {
  let layers: [LayerProfiler.Layer]

  /// Time of a run: nested steps are part of those that hold them.
  private var total: Double {
    layers.reduce(0) { $1.depth == 0 ? $0 + Units.milliseconds($1.median) : $0 }
  }

  private static func rate(_ amount: Int, _ layer: LayerProfiler.Layer) -> Double {
    let seconds = layer.median / .seconds(1)
    return seconds > 0 ? Double(amount) / seconds / 1e9 : 0
  }

  var text: String {
    var table = Table([
      ("#", .right), ("step", .left), ("tactic", .left), ("ms", .right), ("share", .right), ("GFLOP/s", .right),
      ("GB/s", .right), ("sources", .left),
    ])
    for layer in layers {
      let time = Units.milliseconds(layer.median)
      let sources = layer.sources.prefix(3).joined(separator: ", ") + (layer.sources.count > 3 ? ", …" : "")
      table.add([
        String(layer.step), String(repeating: "  ", count: layer.depth) + layer.name, layer.tactic,
        Units.fixed(time, 4), total > 0 ? Units.fixed(100 * time / total, 1) + "%" : "-",
        Units.fixed(Self.rate(layer.work, layer), 1), Units.fixed(Self.rate(layer.traffic, layer), 1), sources,
      ])
    }
    return table.text + "\nall steps: \(Units.fixed(total, 3)) ms"
  }

  var json: JSON {
    .array(
      layers.map { layer in
        .object([
          ("step", .int(layer.step)), ("name", .string(layer.name)), ("depth", .int(layer.depth)),
          ("tactic", .string(layer.tactic)), ("sources", .strings(layer.sources)),
          ("median_ms", .number(Units.milliseconds(layer.median))), ("count", .int(layer.count)),
          ("gflop_per_s", .number(Self.rate(layer.work, layer))),
          ("gb_per_s", .number(Self.rate(layer.traffic, layer))),
        ])
      })
  }
}
