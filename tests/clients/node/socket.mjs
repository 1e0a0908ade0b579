// Says something over a socket and tells what came back.
const socket = new WebSocket(given.url);
socket.binaryType = "arraybuffer";
const answer = await new Promise((resolve, reject) => {
  socket.onopen = () => socket.send(new TextEncoder().encode(given.say));
  socket.onmessage = (event) => resolve(new TextDecoder().decode(event.data));
  socket.onerror = (event) => reject(event.error ?? new Error("the socket failed"));
});
socket.close();
tell(answer);
