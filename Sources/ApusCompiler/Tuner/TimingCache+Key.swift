import ApusCore
package import ApusPlan

extension TimingCache {
  /// Number of the way in which times are taken: figures of another one are not compared with.
  private static let method: UInt64 = 2

  /// The hash of all that decides how long a plan takes on a device: the kernels, whose names are hashes of their sources, and
  /// their sizes.
  package static func key(of plan: Plan, _ sizes: [String: Int]) -> String {
    var hash = ContentHash()
    hash.add(method)
    hash.add(plan.fingerprint.target)
    func add(_ dim: Dim) { hash.add(UInt64(bitPattern: Int64(dim.evaluate { sizes[$0] } ?? -1))) }
    plan.eachStep { step, plan in
      if step.lane != 0 { hash.add("lane \(step.lane)") }
      switch step.action {
      case .library(let call):
        hash.add(call.library.name)
        hash.add(String(describing: call.operation))
        hash.add(UInt64(call.rank))
        call.sizes.forEach(add)
        add(plan.slots[call.buffers[call.buffers.count - 1]].type.tensor?.byteCount ?? 0)
      case .launch(let launch):
        let function = plan.functions[launch.function]
        hash.add(function.symbol)
        hash.add(UInt64(function.threads))
        hash.add(UInt64(function.sharedByteCount))
        launch.parameters.forEach(add)
        add(launch.blocks)
        add(launch.scratchBytes)
        for map in launch.maps {
          map.dims.forEach(add)
          for size in map.box { hash.add(UInt64(size)) }
        }
      case .host(let call): hash.add("\(call.operation) \(call.attributes)")
      case .copy, .bind, .define, .branch, .loop, .piece: break
      }
    }
    return hash.hex
  }
}
