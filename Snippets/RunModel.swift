// Builds a model, keeps the engine in a file, loads it and runs it.

import Apus
import Foundation

// snippet.show
let file = URL(fileURLWithPath: "model.apus")
let plan = try buildPlan(contentsOf: URL(fileURLWithPath: "model.onnx"))
try plan.write(to: file)

let engine = try Engine(contentsOf: file)
let context = try engine.makeContext()
let image = HostTensor(.f32, [1, 3, 224, 224], elements: [Float](repeating: 0.5, count: 3 * 224 * 224))
let outputs = try context.run(inputs: ["image": image])
for (name, value) in outputs { print(name, value.type) }
