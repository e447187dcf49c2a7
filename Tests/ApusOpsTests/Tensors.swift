import ApusCore
import ApusGraph
import ApusOps

/// Short spellings of tensors for tests.
func floats(_ shape: [Int], _ values: [Double]) -> HostTensor { HostTensor(.f32, shape, doubles: values) }
func integers(_ shape: [Int], _ values: [Int64]) -> HostTensor { HostTensor(.i64, shape, int64s: values) }
func strings(_ values: String...) -> HostTensor { HostTensor(strings: values, shape: [values.count]) }
func bools(_ values: [Int64]) -> HostTensor { HostTensor(.bool, [values.count], int64s: values) }

/// A size that an operation sets.
let someCount = Dim(Symbol("count"))

/// Whether two lists of numbers agree to about f32.
func isClose(_ a: [Double], _ b: [Double], _ tolerance: Double = 1e-5) -> Bool {
  a.count == b.count && zip(a, b).allSatisfy { ($0 - $1).magnitude <= tolerance * max(1, $1.magnitude) }
}
