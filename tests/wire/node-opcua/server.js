// A turbine behind node-opcua, driven by lines of JSON on its input: {"name": "Power", "value": 1.5, "status": "Good"}.
// It prints one line of JSON when it listens, and one for each user that asks to come in.
"use strict";
const opcua = require("node-opcua");
const readline = require("node:readline");

const given = JSON.parse(process.argv[2]); // {port, folder, certificate, key, uri, user, password, policies, sessions}
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

async function main() {
    const clients = new opcua.OPCUACertificateManager({ rootFolder: given.folder, automaticallyAcceptUnknownCertificate: false });
    await clients.initialize();
    const server = new opcua.OPCUAServer({
        port: given.port,
        host: "127.0.0.1",
        hostname: "127.0.0.1",
        certificateFile: given.certificate,
        privateKeyFile: given.key,
        serverCertificateManager: clients,
        serverInfo: { applicationUri: given.uri },
        securityPolicies: given.policies.map((name) => opcua.SecurityPolicy[name]),
        securityModes: [opcua.MessageSecurityMode.SignAndEncrypt],
        allowAnonymous: false,
        serverCapabilities: { maxSessions: given.sessions, operationLimits: { maxNodesPerRead: 6, maxMonitoredItemsPerCall: 3 } },
        userManager: {
            isValidUser(user, password) {
                say({ user, known: user === given.user && password === given.password });
                return user === given.user && password === given.password;
            },
        },
    });
    await server.initialize();
    const space = server.engine.addressSpace.getOwnNamespace();
    const device = space.addObject({ organizedBy: server.engine.addressSpace.rootFolder.objects, browseName: "Turbine" });
    const nodes = {};
    for (const [name, dataType, value] of [
        ["Power", "Double", 0.0],
        ["Running", "Boolean", false],
        ["Level", "Float", 0.0],
        ["Fault", "Int16", 0],
        ["Flow", "Double", 0.0],
        ["Set", "Double", 0.0],
        ["Beat", "UInt16", 0],
    ]) {
        nodes[name] = space.addVariable({
            componentOf: device,
            browseName: name,
            nodeId: `ns=1;s=${name}`,
            dataType,
            minimumSamplingInterval: 50,
            accessLevel: "CurrentRead | CurrentWrite",
            userAccessLevel: "CurrentRead | CurrentWrite",
        });
        nodes[name].setValueFromSource({ dataType: opcua.DataType[dataType], value });
    }
    readline.createInterface({ input: process.stdin }).on("line", (line) => {
        const told = JSON.parse(line);
        const node = nodes[told.name];
        node.setValueFromSource({ dataType: node.dataType.value, value: told.value }, opcua.StatusCodes[told.status || "Good"]);
        say({ set: told.name });
    });
    process.stdin.on("end", () => process.exit(0));
    await server.start();
    say({ ready: given.port });
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
