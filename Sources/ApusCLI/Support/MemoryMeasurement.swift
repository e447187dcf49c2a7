import Apus
import ApusCore
import ApusRuntime

/// What a context took of the device's memory, beside what was forecast for it.
struct MemoryMeasurement {
  let forecast: MemoryForecast
  let use: DeviceMemoryUse

  /// Of what has run so far in a context whose inputs and outputs are in the host's memory; nil where the device's memory is
  /// the host's.
  init?(_ engine: Engine, _ context: borrowing ExecutionContext, _ inputs: [InputValues.Entry]) throws {
    guard let use = engine.device.memoryUse else { return nil }
    self.use = use
    let plan = engine.plans[context.activeProfile]
    var shapes: [String: [Int]] = [:]
    var values: [String: [Int]] = [:]
    for input in inputs {
      guard let tensor = input.value.tensor else { continue }
      shapes[input.name] = tensor.shape
      if plan.inputs.contains(where: { $0.name == input.name && $0.values != nil }) { values[input.name] = tensor.ints }
    }
    forecast = try engine.memoryForecast(shapes: shapes, values: values, profile: context.activeProfile)
  }

  /// All that was taken at the same time.
  private var total: Int { use.peakByteCount + use.driverByteCount }

  private var ratio: Double { Double(total) / Double(max(forecast.deviceByteCount, 1)) }

  var text: String {
    "device memory: \(Units.bytes(forecast.deviceByteCount)) forecast, \(Units.bytes(total)) at the peak "
      + "(\(Units.fixed(100 * ratio, 1)) %): \(Units.bytes(use.peakByteCount)) allocated, "
      + "\(Units.bytes(use.driverByteCount)) taken by the driver for code and recordings"
  }

  var json: (String, JSON) {
    (
      "device_memory",
      .object([
        ("forecast_bytes", .int(forecast.deviceByteCount)), ("peak_bytes", .int(total)),
        ("allocated_bytes", .int(use.peakByteCount)), ("driver_bytes", .int(use.driverByteCount)),
      ])
    )
  }
}
