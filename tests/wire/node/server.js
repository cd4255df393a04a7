// A Modbus TCP device on modbus-serial. Prints its port. Holding register k of unit u holds 1000 u + k until it is written;
// coil k is set where k is odd; unit 9 never answers, unit 8 answers with exception 4.
"use strict";
const { ServerTCP } = require("modbus-serial");

const written = new Map();
const key = (unit, address) => unit * 65536 + address;
const refuse = () => Promise.reject({ modbusErrorCode: 4 });

function behave(unit, value) {
    if (unit === 9) return new Promise(() => {});
    if (unit === 8) return refuse();
    return Promise.resolve(value());
}

const vector = {
    getHoldingRegister: (address, unit) => behave(unit, () => written.get(key(unit, address)) ?? 1000 * unit + address),
    getInputRegister: (address, unit) => behave(unit, () => 500 * unit + address),
    getCoil: (address, unit) => behave(unit, () => address % 2 === 1),
    getDiscreteInput: (address, unit) => behave(unit, () => address % 5 === 0),
    setRegister: (address, value, unit) => behave(unit, () => { written.set(key(unit, address), value); }),
    setCoil: (address, value, unit) => behave(unit, () => {}),
};

// "0" as text: the number 0 would mean the default port
const server = new ServerTCP(vector, { host: "127.0.0.1", port: "0", debug: false, unitID: 255 });
server.on("initialized", () => console.log(server._server.address().port));
server.on("socketError", () => {});
server.on("serverError", (error) => { console.error(error.message); process.exit(1); });
