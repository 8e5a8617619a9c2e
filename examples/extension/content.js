for (const image of document.images) {
  chrome.runtime.sendMessage(image.currentSrc).then((labels) => (image.title = labels.join(", ")));
}
