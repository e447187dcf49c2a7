import ApusCore
import ApusKernel
import Testing

@Suite struct ScalarFunctionTests {
  @Test(arguments: [DType.i8, .u8, .i16, .i32, .u32, .i64, .u64, .i4])
  func integersNeverTrapAndStayInRange(_ dtype: DType) {
    let edges: [Int64] = [.min, -129, -128, -8, -1, 0, 1, 7, 8, 127, 255, 65536, .max].map(dtype.wrapping)
    for function in ScalarFunction.allCases where function.accepts(dtype) {
      for x in edges {
        for y in edges {
          let value = function.evaluate(x, y, as: dtype)
          #expect(dtype.wrapping(value) == value, "\(function)(\(x), \(y)) of \(dtype)")
        }
      }
    }
  }

  @Test func integerDivisionTruncatesAndRemaindersFollowTheirSigns() {
    #expect(ScalarFunction.div.evaluate(-7, 2, as: .i32) == -3)
    #expect(ScalarFunction.fmod.evaluate(-7, 2, as: .i32) == -1)
    #expect(ScalarFunction.floor_mod.evaluate(-7, 2, as: .i32) == 1)
    #expect(ScalarFunction.floor_mod.evaluate(7, -2, as: .i32) == -1)
    #expect(ScalarFunction.div.evaluate(-128, -1, as: .i8) == -128)
    #expect(ScalarFunction.div.evaluate(-1, 2, as: .u64) == .max)
    #expect(ScalarFunction.floor_mod.evaluate(-7.5, 2) == 0.5)
    #expect(ScalarFunction.fmod.evaluate(-7.5, 2) == -1.5)
  }

  @Test func overflowWrapsAtTheWidth() {
    #expect(ScalarFunction.add.evaluate(127, 1, as: .i8) == -128)
    #expect(ScalarFunction.mul.evaluate(200, 2, as: .u8) == 144)
    #expect(ScalarFunction.sub.evaluate(0, 1, as: .u32) == 4_294_967_295)
    #expect(ScalarFunction.pow.evaluate(3, 5, as: .i8) == -13)
    #expect(ScalarFunction.pow.evaluate(2, -1, as: .i32) == 0)
    #expect(ScalarFunction.shift_left.evaluate(1, 8, as: .u8) == 0)
    #expect(ScalarFunction.shift_right.evaluate(-1, 63, as: .u64) == 1)
  }

  @Test func notANumberGoesThroughMinimumAndMaximum() {
    for function in [ScalarFunction.min, .max] {
      #expect(function.evaluate(.nan, 1).isNaN && function.evaluate(1, .nan).isNaN)
    }
    #expect(ScalarFunction.sign.evaluate(.nan).isNaN)
    #expect(ScalarFunction.relu.evaluate(.nan).isNaN)
    #expect(ScalarFunction.less.evaluate(.nan, 1) == 0 && ScalarFunction.not_equal.evaluate(.nan, .nan) == 1)
  }

  @Test func roundingIsToNearestEven() {
    let halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    #expect(halves.map { ScalarFunction.round.evaluate($0) } == [-2, -2, 0, 0, 2, 2])
  }

  @Test func activationsStayFiniteFarOut() {
    for function in [ScalarFunction.sigmoid, .softplus, .silu, .gelu, .gelu_tanh, .mish, .tanh, .softsign] {
      for x in [-1e4, -800, 0, 800, 1e4] { #expect(function.evaluate(x).isFinite, "\(function)(\(x))") }
    }
  }
}
