// ApusCPUDevice
