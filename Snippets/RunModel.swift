// Builds a model, keeps the engine in a file, loads it and runs it.

// snippet.show
import Apus
import Foundation

let file = URL(fileURLWithPath: "model.apus")
let plans = try buildPlans(contentsOf: URL(fileURLWithPath: "model.onnx"))
try plans.write(to: file)

let engine = try Engine(contentsOf: file)
let context = try engine.makeContext()
let image = HostTensor(.f32, [1, 3, 224, 224], elements: [Float](repeating: 0.5, count: 3 * 224 * 224))
let outputs = try context.run(inputs: ["image": image])
for (name, value) in outputs { print(name, value.type) }
