//! Moves tensors to a device and back.

use tch::{Device, Tensor};

use crate::error::Result;

/// `tensor` on `device`. Does not wait for pending work of a GPU.
pub fn to_device(tensor: Tensor, device: Device) -> Result<Tensor> {
    if device == Device::Cpu {
        return Ok(tensor);
    }
    // A copy is asynchronous only from pinned memory, which libtorch keeps until the copy is done. The public
    // `pin_memory` prints a warning each time about its device argument, which tch cannot omit.
    Ok(tensor.f_internal_pin_memory(device)?.f_internal_to_copy((tensor.kind(), device), true)?)
}

/// The values of a tensor of 32-bit floats, row-major; waits for them.
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0f32; tensor.numel()];
    let len = values.len();
    tensor.to_device(Device::Cpu).contiguous().f_copy_data(&mut values, len)?;
    Ok(values)
}
