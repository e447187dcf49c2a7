import ApusCore
package import ApusPlan

extension TimingCache {
  /// Number of the way in which times are taken: figures of another one are not compared with.
  private static let method: UInt64 = 3

  /// The hash of all that decides how long a plan takes on a device: the kernels, whose names are hashes of their sources, and
  /// their sizes.
  ///
  /// - Parameter byteCount: what a run of the model touches, which decides what is in the caches; its power of two counts.
  package static func key(of plan: Plan, _ sizes: [String: Int], beside byteCount: Int = 0) -> String {
    var hash = ContentHash()
    hash.add(method)
    hash.add(UInt64(byteCount.bitWidth - byteCount.leadingZeroBitCount))
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

extension [Plan] {
  /// Bytes that a run of the plan that needs most touches, about: the constants of its regions, however they are kept, and a few
  /// times the largest tensor, since steps use the memory of others again.
  var touchedByteCount: Int {
    reduce(0) { most, plan in
      var sum = 0
      for type in plan.allSteps.compactMap(\.alternatives).flatMap(\.constants) {
        sum = saturatingAdd(sum, type.byteCount.constantValue ?? 0)
      }
      let tensors = plan.slots.compactMap { slot in
        if case .arena = slot.storage { slot.type.tensor?.byteCount.estimate } else { nil }
      }
      return Swift.max(most, saturatingAdd(sum, saturatingMultiply(4, tensors.max() ?? 0)))
    }
  }
}
