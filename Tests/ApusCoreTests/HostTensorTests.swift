import ApusCore
import Testing

@Suite struct HostTensorTests {
  @Test(arguments: DType.allCases) func numbersMakeTensorsOfEveryType(dtype: DType) {
    let ofDoubles = HostTensor(dtype, [2], doubles: [1, 1])
    let ofIntegers = HostTensor(dtype, [2], int64s: [1, 1])
    for tensor in [ofDoubles, ofIntegers] {
      #expect(tensor.elementCount == 2)
      #expect(dtype == .string ? tensor.strings == ["", ""] : tensor.doubles == [1, 1], "\(dtype)")
    }
  }
}
