// The camera: opening, choosing and closing it.

/**
 * @typedef {object} Camera
 * @property {MediaStream} stream
 * @property {string} id of the device that was opened
 * @property {boolean} mirrored whether it faces the user; the picture is then mirrored
 */

/**
 * @param {string} [id] a device; by default the back camera of a phone, or any other camera
 * @returns {Promise<Camera>}
 */
export async function openCamera(id) {
  if (!navigator.mediaDevices?.getUserMedia) {
    const why = window.isSecureContext ? "this browser offers none" : "browsers give it to https:// and localhost only";
    throw new DOMException(why, "NotSupportedError");
  }
  const size = { width: { ideal: 1280 }, height: { ideal: 720 } };
  const which = id ? { deviceId: { exact: id } } : { facingMode: { ideal: "environment" } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, ...which }, audio: false });
  const { deviceId = "", facingMode } = stream.getVideoTracks()[0].getSettings();
  // Laptops do not report the direction of their camera: it faces the user.
  return { stream, id: deviceId, mirrored: facingMode !== "environment" };
}

/** @param {MediaStream} stream */
export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/**
 * The cameras with names. Browsers reveal names only after one camera was opened.
 * @returns {Promise<{ id: string, name: string }[]>}
 */
export async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter((device) => device.kind === "videoinput" && device.deviceId)
    .map(({ deviceId, label }, index) => ({ id: deviceId, name: label || `Camera ${index + 1}` }));
}
