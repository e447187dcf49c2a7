import ApusCore
import ApusPlan
import ApusRuntime
import Testing

@testable import ApusCPUDevice

@Suite struct CPUDeviceTests {
  static let image = Result { try CompiledImage.compile() }

  @Test func codeOfSeveralImagesStaysApart() throws {
    let device = CPUDevice(threads: 1)
    func image(_ value: Int) throws -> any DeviceImage {
      try device.load(try CompiledImage.compile("KERNEL(f) { *(int32_t *)buffers[0] = \(value); }"))
    }
    func result(_ image: any DeviceImage) throws -> Int32 {
      var value: Int32 = 0
      let function = try image.function(KernelFunction(image: 0, symbol: "f"))
      let stream = try device.makeStream()
      try withUnsafeMutablePointer(to: &value) { pointer in
        var buffers: [UnsafeMutableRawPointer?] = [UnsafeMutableRawPointer(pointer)]
        let parameters: [Int64] = [0]
        buffers.withUnsafeMutableBufferPointer { buffers in
          parameters.withUnsafeBufferPointer { parameters in
            guard let first = buffers.baseAddress, let arguments = parameters.baseAddress else { return }
            stream.launch(
              DeviceLaunch(
                function: function, buffers: UnsafePointer(first), bufferCount: 1, parameters: arguments,
                parameterCount: 1, blocks: 1,
                scratch: nil, scratchStride: 0))
          }
        }
        try stream.synchronize()
      }
      return value
    }
    let first = try image(11)
    var second: (any DeviceImage)? = try image(22)
    #expect(try result(first) == 11)
    #expect(try second.map { try result($0) } == 22)
    second = nil
    for value in 30..<36 { #expect(try result(try image(value)) == Int32(value)) }
    #expect(try result(first) == 11)
  }

  @Test func badCodeIsRefused() throws {
    let device = CPUDevice(threads: 1)
    let error = #expect(throws: DeviceError.self) {
      try device.load(KernelImage(target: "x86-64", bytes: Array("not a library".utf8)))
    }
    #expect(error?.problems[0].code == "APUS-D-0002")
    let image = try device.load(try Self.image.get())
    let missing = #expect(throws: DeviceError.self) { try image.function(KernelFunction(image: 0, symbol: "absent")) }
    #expect(missing?.problems[0].code == "APUS-D-0003")
    #expect(throws: DeviceError.self) { try device.allocate(byteCount: -1) }
    #expect(throws: DeviceError.self) { try device.allocate(byteCount: 1 << 62) }
  }

  @Test func foreignTargetsAreRefusedByName() throws {
    let device = CPUDevice(threads: 1)
    func refusal(_ backend: String, _ target: String, _ features: [String]) -> String {
      do throws(EngineFileError) {
        _ = try device.suitability(of: Fingerprint(backend: backend, target: target, features: features))
        return ""
      } catch { return error.description }
    }
    #expect(refusal("cpu", device.features.level, device.features.names) == "")
    #expect(refusal("cuda", "sm_90a", []).hasPrefix("APUS-E-0011"))
    #expect(refusal("cpu", "sparc", []).contains("'sparc'"))
    #expect(refusal("cpu", device.features.level, ["amx-quux"]).contains("needs amx-quux, this machine"))
  }

  @Test func levelsFollowFromFeatures() {
    let v3 = [
      "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe",
    ]
    let machine = CPUFeatures(architecture: "x86-64", names: v3)
    #expect(machine.level == "x86-64-v3")
    #expect(machine.missing(for: "x86-64-v2") == [])
    #expect(machine.missing(for: "x86-64-v4") == ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
    #expect(machine.missing(for: "arm64") == nil)
    #expect(CPUFeatures(architecture: "x86-64", names: []).level == "x86-64")
    #expect(CPUFeatures(architecture: "arm64", names: []).level == "arm64")
    #expect(CPUFeatures().processorCount >= 1)
  }
}
