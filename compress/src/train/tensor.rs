//! Tensors to a device and back.

use tch::{Device, Tensor};

use crate::error::Result;

/// `tensor` on `device`, without waiting for what a GPU still has to do.
pub fn to_device(tensor: Tensor, device: Device) -> Result<Tensor> {
    if device == Device::Cpu {
        return Ok(tensor);
    }
    // Only from pinned memory does a copy go on by itself; libtorch keeps that memory until it is done. The public
    // `pin_memory` prints a warning each time, for the device that tch cannot leave out.
    Ok(tensor.f_internal_pin_memory(device)?.f_internal_to_copy((tensor.kind(), device), true)?)
}

/// The values of a tensor of 32-bit floats, row-major; waits for them.
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0f32; tensor.numel()];
    let len = values.len();
    tensor.to_device(Device::Cpu).contiguous().f_copy_data(&mut values, len)?;
    Ok(values)
}
