import ApusCore
import Foundation
import SwiftProtobuf
import Testing

@testable import ApusImport

struct TensorReaderTests {
  private func read(_ code: Int32, _ dims: [Int64], raw: [UInt8]) throws(ImportError) -> HostTensor {
    try TensorReader().tensor(
      .with {
        $0.dataType = code
        $0.dims = dims
        $0.rawData = Data(raw)
      })
  }

  @Test func unpacksNarrowIntegers() throws {
    #expect(try read(22, [3], raw: [0x7f, 0x08]).ints == [-1, 7, -8])
    #expect(try read(21, [3], raw: [0x7f, 0x08]).ints == [15, 7, 8])
    #expect(try read(26, [5], raw: [0b1110_0100, 0b10]).ints == [0, 1, -2, -1, -2])
    #expect(try read(25, [4], raw: [0b1110_0100]).ints == [0, 1, 2, 3])
    #expect(try read(23, [2], raw: [0xa1]).doubles == [0.5, -1])
    #expect(try read(9, [3], raw: [0, 2, 1]).ints == [0, 1, 1])
  }

  @Test func readsTypedFields() throws {
    let half = try TensorReader().tensor(
      .with {
        $0.dataType = 10
        $0.dims = [2]
        $0.int32Data = [0x3c00, 0xc000]
      })
    #expect(half.doubles == [1, -2])
    let bytes = try TensorReader().tensor(
      .with {
        $0.dataType = 3
        $0.dims = [2]
        $0.int32Data = [-3, 100]
      })
    #expect(bytes.ints == [-3, 100])
    let strings = try TensorReader().tensor(
      .with {
        $0.dataType = 8
        $0.dims = [2]
        $0.stringData = [Data("a".utf8), Data("bc".utf8)]
      })
    #expect(strings.strings == ["a", "bc"])
  }

  @Test func refusesWrongByteCounts() {
    for raw in [[], [1, 2, 3], [1, 2, 3, 4, 5]] as [[UInt8]] {
      #expect(throws: ImportError.self) { try read(1, [1], raw: raw) }
    }
    #expect(throws: ImportError.self) { try read(16, [2, 2], raw: [1, 2]) }
    #expect(throws: ImportError.self) { try read(14, [1], raw: [UInt8](repeating: 0, count: 8)) }
  }

  @Test func fillsSparseTensors() throws {
    let sparse = Onnx_SparseTensorProto.with {
      $0.dims = [2, 3]
      $0.values = ONNX.tensor("v", floats: [5, 7])
      $0.indices = ONNX.tensor("i", [0, 2, 1, 0], dims: [2, 2])
    }
    #expect(try TensorReader().tensor(sparse).doubles == [0, 0, 5, 7, 0, 0])
    var outside = sparse
    outside.indices = ONNX.tensor("i", [0, 3, 1, 0], dims: [2, 2])
    #expect(throws: ImportError.self) { try TensorReader().tensor(outside) }
    var huge = sparse
    huge.dims = [1 << 40, 1 << 20]
    #expect(throws: ImportError.self) { try TensorReader().tensor(huge) }
  }
}
